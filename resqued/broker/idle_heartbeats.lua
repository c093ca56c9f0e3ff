-- The heartbeats of many workers that serve the same queues and have no job.
--
-- KEYS  1 all workers  2.. the sets of their queues; then, for each: the worker, its executions
-- ARGV  1 now, as RQ writes it  2 TTL of the workers' keys  3 the number of sets
--
-- Returns for each, in their order, what `heartbeat.lua` returns for one. Only data that is stored for
-- all of them can make it fail; then the steward sends a heartbeat for each.

local sets, ttl, answers = tonumber(ARGV[3]), tonumber(ARGV[2]), {}
local function extend(key)
    local left = redis.call('TTL', key)
    if left >= 0 and left < ttl then
        redis.call('EXPIRE', key, ttl)
    end
end
local function beat(worker, executions)
    local kind = redis.call('TYPE', worker).ok
    if kind == 'none' then
        return 0
    end
    if kind ~= 'hash' then
        redis.call('DEL', worker)
        return -2
    end
    local fields = redis.call('HMGET', worker, 'death', 'birth')
    if fields[1] then
        return -1
    end
    redis.call('HSET', worker, 'last_heartbeat', ARGV[1])
    extend(worker)
    extend(executions)
    local whole = fields[2]
    for i = 1, 1 + sets do
        whole = whole and redis.call('SISMEMBER', KEYS[i], worker) == 1
    end
    return whole and 1 or 2
end
for i = 2 + sets, #KEYS, 2 do
    answers[#answers + 1] = beat(KEYS[i], KEYS[i + 1])
end
return answers
