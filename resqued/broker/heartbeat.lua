-- The heartbeat of one worker, and of the job in its hand.
--
-- KEYS  1 the worker  2 its executions  3 all workers  4.. the sets of its queues; with a job also:
--       execution, registry of started jobs, the job's executions, job
-- ARGV  1 now, as RQ writes it  2 TTL of the worker's key  3 the number of sets; with a job also:
--       4 now in seconds  5 TTL  6 JOB:EXECUTION  7 EXECUTION  8 `1`: the outcome is being written
--       9 the worker's name
--
-- Returns 1: done; 0: the key does not exist; 2: the entry is incomplete, or missing in a set;
-- -1: the worker has been deregistered; -2: the key was no hash, and was deleted.
--
-- An execution that RQ's registry does not list has ended, unless the job's hash says otherwise: then
-- the registry was evicted or deleted (`executions.is_open`), and the execution is listed again. Keys
-- that a transaction watches are not touched: the execution and the job while its outcome is being
-- written, which may take longer than a heartbeat's interval, and a job that others depend on, since
-- the outcomes of their other parents watch it.

local function extend(key, ttl)
    local left = redis.call('TTL', key)
    if left >= 0 and left < ttl then
        redis.call('EXPIRE', key, ttl)
    end
end
local function postpone(key, member, score)
    local stands = redis.call('ZSCORE', key, member)
    if stands and tonumber(stands) < score then
        redis.call('ZADD', key, score, member)
    end
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
    return 0
end
if kind ~= 'hash' then
    redis.call('DEL', KEYS[1])
    return -2
end
if redis.call('HEXISTS', KEYS[1], 'death') == 1 then
    return -1
end
redis.call('HSET', KEYS[1], 'last_heartbeat', ARGV[1])
extend(KEYS[1], tonumber(ARGV[2]))
extend(KEYS[2], tonumber(ARGV[2]))
local sets = tonumber(ARGV[3])
if #KEYS > 3 + sets then
    local execution, wip, executions, job = unpack(KEYS, 4 + sets)
    local now, ttl, writes = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[8] == '1'
    local stands = redis.call('ZSCORE', wip, ARGV[6])
    local is_hash = redis.call('TYPE', job).ok == 'hash'
    if not stands and is_hash then
        local fields = redis.call('HMGET', job, 'status', 'worker_name')
        local listed = redis.call('ZRANGE', executions, 0, -1)
        stands = fields[1] == 'started' and fields[2] == ARGV[9]
            and (#listed == 0 or #listed == 1 and listed[1] == ARGV[7])
        if stands then
            redis.call('ZADD', wip, now + ttl, ARGV[6])
            redis.call('ZADD', executions, now + ttl + 60, ARGV[7])
            redis.call('EXPIRE', executions, ttl + 60)
        end
    end
    if stands then
        if not writes and redis.call('EXISTS', execution) == 1 then
            redis.call('HSET', execution, 'last_heartbeat', ARGV[4])
            extend(execution, ttl)
        end
        postpone(wip, ARGV[6], now + ttl)
        postpone(executions, ARGV[7], now + ttl + 60)
        extend(executions, ttl + 60)
        local alone = redis.call('EXISTS', job .. ':dependents') == 0
        if not writes and alone and is_hash then
            redis.call('HSET', job, 'last_heartbeat', ARGV[1])
        end
    end
end
local whole = redis.call('HEXISTS', KEYS[1], 'birth') == 1
for i = 3, 3 + sets do
    whole = whole and redis.call('SISMEMBER', KEYS[i], KEYS[1]) == 1
end
return whole and 1 or 2
