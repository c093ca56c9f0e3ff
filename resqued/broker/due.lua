-- Move due jobs of one queue from its registry of scheduled jobs to where they wait for a worker, as
-- RQ's scheduler leaves them. Who removes the id from the registry has moved the job, and only the
-- holder of the queue's lock does, so a job is moved once, and a cancelled one never.
--
-- `promote`, RQ's own script that fills the free places of a rate limit, is put before this one.
--
-- KEYS  1 the scheduler's lock  2 the registry  3 the queue's list
-- ARGV  1 who holds the lock  2 prefix of RQ's keys  3 the queue  4 timeout of a job that has none
--       5 now, as RQ writes it  6 how many jobs at most
--       7 `but`: all that are due but these; `only`: these
--       8.. ids
--
-- Returns {what, moved, gone, odd}. what: `held`, or `other` if another holds the lock: nothing is
-- done then. moved: a number. gone: ids whose job does not exist any more; they are removed. odd: ids
-- that stay, since their keys have another type, or they may be no UTF-8 (unless `only`).
-- An error, and nothing is done, if the queue's list has another type.

local call, pcall_ = redis.call, redis.pcall
local rq, name, now = ARGV[2], ARGV[3], ARGV[5]
local MOST = 2000 -- words that Lua passes on at once

if call('GET', KEYS[1]) ~= ARGV[1] then
    return { 'other', 0, {}, {} }
end
call('LLEN', KEYS[3]) -- the error for another type, before the first write

local time = call('TIME')
local second = tonumber(time[1])
local clock = second + tonumber(time[2]) / 1e6
local ids, skipped, only = {}, {}, ARGV[7] == 'only'
if only then
    for i = 8, #ARGV do
        local score = call('ZSCORE', KEYS[2], ARGV[i])
        if score and tonumber(score) <= clock then
            ids[#ids + 1] = ARGV[i]
        end
    end
else
    for i = 8, #ARGV do
        skipped[ARGV[i]] = true
    end
    ids = call('ZRANGEBYSCORE', KEYS[2], '-inf', clock, 'LIMIT', 0, ARGV[6] + #ARGV - 7)
end

local function is_of(key, kind)
    local found = call('TYPE', key).ok
    return found == 'none' or found == kind
end

local function is_set(field)
    return field and field ~= '' and field ~= '0'
end

local back, gone, odd, removed = {}, {}, {}, {}
local limits = {}
local moved = 0

-- Rate limited: it waits at its limit; `promote` fills the places that are free.
local function wait_at_limit(id, job, key, concurrency, front)
    local limit = rq .. ':rl:' .. key
    local waiting, allowed = limit .. ':rate_limited', limit .. ':allowed'
    if not (is_of(rq .. ':rl-keys', 'set') and is_of(limit, 'hash') and is_of(waiting, 'zset')
            and is_of(allowed, 'zset')) then
        return false
    end
    call('SADD', rq .. ':rl-keys', key)
    call('HSET', limit, 'concurrency', concurrency)
    call('HSET', job, 'status', 'rate_limited', 'origin', name)
    if front then
        call('HSET', job, 'enqueue_at_front', '1')
    end
    call('ZADD', waiting, second, id)
    limits[#limits + 1] = { allowed, waiting, concurrency }
    return true
end

local function move(id)
    local job = rq .. ':job:' .. id
    local hash = pcall_('HMGET', job, 'data', 'status', 'ttl', 'timeout', 'enqueue_at_front',
        'enqueue_at_front_on_retry', 'ended_at', 'rate_limit_key', 'rate_limit_concurrency')
    if hash.err or not only and string.find(id, '[\128-\255]') then
        odd[#odd + 1] = id
        return
    end
    local status, ttl, front = hash[2], tonumber(hash[3]), is_set(hash[5])
    if is_set(hash[6]) and is_set(hash[7]) then
        front = true
    end
    if not hash[1] or ttl == 0 then
        gone[#gone + 1], removed[#removed + 1] = id, id
        return
    elseif status == 'canceled' then
        removed[#removed + 1] = id
        return
    end
    local concurrency = is_set(hash[8]) and is_set(hash[9]) and tonumber(hash[9])
    if concurrency then
        if not wait_at_limit(id, job, hash[8], concurrency, front) then
            odd[#odd + 1] = id
            return
        end
    else
        call('HSET', job, 'status', 'queued', 'origin', name, 'enqueued_at', now)
        if status == 'deferred' then
            pcall_('ZREM', rq .. ':deferred:' .. name, id)
        end
        if front then
            call('LPUSH', KEYS[3], id)
        else
            back[#back + 1] = id
        end
    end
    if not hash[4] or hash[4] == '' then
        call('HSET', job, 'timeout', ARGV[4])
    end
    if ttl and ttl > 0 then
        call('EXPIRE', job, ttl)
        call('EXPIRE', job .. ':dependents', ttl)
        call('EXPIRE', rq .. ':job::' .. id .. ':dependencies', ttl) -- RQ has two colons
    end
    removed[#removed + 1] = id
    moved = moved + 1
end

local left = tonumber(ARGV[6])
for _, id in ipairs(ids) do
    if left == 0 then
        break
    elseif not skipped[id] then
        left = left - 1
        move(id)
    end
end
for i = 1, #back, MOST do
    call('RPUSH', KEYS[3], unpack(back, i, math.min(i + MOST - 1, #back)))
end
for i = 1, #removed, MOST do
    call('ZREM', KEYS[2], unpack(removed, i, math.min(i + MOST - 1, #removed)))
end
for _, limit in ipairs(limits) do
    promote({ limit[1], limit[2] }, { limit[3], second, now, rq .. ':queue:', rq .. ':job:' })
end
return { 'held', moved, gone, odd }
