-- Undo the start of the job in a worker's hand: back to the front of its queue, as if it had not
-- been taken. Nothing of the job is read, since what has begun to read it may have died of that.
--
-- KEYS  1 hands  2 running  3 the worker's executions
-- ARGV  1 owner  2 the execution that is meant; nothing: whichever is in hand  3 prefix of RQ's keys
--       4 field of the job's hash that counts this, or nothing  5 the limit of it
--       6 `1`: the worker is dead, and its hand goes with it
--
-- Answers {what, job, key of the queue, execution}. what: `nothing` is in hand, or not this
-- execution; `back`; `ended` by somebody else; `limit`: this was its last time; it is still in hand.

local call = redis.call
local owner, rq = ARGV[1], ARGV[3]

local hand = call('HGET', KEYS[1], owner)
if not hand then
    return { 'nothing' }
end
local number, mark, execution, id, queue = string.match(hand, '^(%d+) (.)%d+ ?(%S*) ?(%S*) ?(.*)$')

local function let_go()
    if ARGV[6] == '1' then
        call('HDEL', KEYS[1], owner)
    else
        call('HSET', KEYS[1], owner, number .. ' -0')
    end
end

if mark ~= '=' and mark ~= '+' or ARGV[2] ~= '' and ARGV[2] ~= execution then
    if ARGV[6] == '1' and mark == '-' then
        call('HDEL', KEYS[1], owner)
    end
    return { 'nothing' }
end

local name, job, both = string.sub(queue, #rq + 8), rq .. ':job:' .. id, id .. ':' .. execution
local what = 'ended'
local there = call('TYPE', job).ok == 'hash' -- else it is gone, or somebody has overwritten it
local told = there and call('HMGET', job, 'status', 'worker_name') or {}
local mine = told[1] == 'started' and told[2] == string.match(owner, '^%S+ %S+ %S+ %S+ (.*)$')
if mark == '+' or call('ZSCORE', rq .. ':wip:' .. name, both) or mine then
    if ARGV[4] ~= '' and there then
        if call('HINCRBY', job, ARGV[4], 1) >= tonumber(ARGV[5]) then
            return { 'limit', id, queue, execution }
        end
    end
    what = 'back'
end
call('ZREM', rq .. ':wip:' .. name, both)
call('DEL', rq .. ':execution:' .. both)
call('ZREM', rq .. ':executions:' .. id, execution)
call('SREM', KEYS[3], both)
call('HDEL', KEYS[2], both)
if what == 'back' and there then
    call('HSET', job, 'status', 'queued', 'worker_name', '')
    local ttl = tonumber(call('HGET', job, 'ttl') or '')
    if ttl and ttl > 0 then
        call('EXPIRE', job, ttl)
    end
    call('LPUSH', queue, id)
end
let_go()
return { what, id, queue, execution }
