-- Undo the start of the job in a worker's hand: put it back to the front of its queue, as if it had
-- not been taken. The job's data is not read: a worker may have died of reading it.
--
-- KEYS  1 hands  2 running  3 the worker's executions
-- ARGV  1 owner  2 the execution to put back; empty: the one in hand  3 prefix of RQ's keys
--       4 field of the job's hash that counts this, or empty  5 the limit of that counter
--       6 `1`: the worker is dead; delete its hand  7 the event for its story (`tell.lua`), or empty
--
-- Returns {what, job, key of the queue, execution}. what: `nothing`: not in hand; `back`: put back;
-- `ended`: by another process; `limit`: the counter is at its limit, and the job still in hand.

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
local there = call('TYPE', job).ok == 'hash' -- else it is deleted or overwritten
local fields = there and call('HMGET', job, 'status', 'worker_name') or {}
local mine = fields[1] == 'started' and fields[2] == string.match(owner, '^%S+ %S+ %S+ %S+ (.*)$')
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
    tell(ARGV[7], id)
end
let_go()
return { what, id, queue, execution }
