-- Functions for scripts that enqueue jobs of periodic jobs. It is put before them, and uses their keys:
-- KEYS  3 the queue's list  4 RQ's set of queues  5 RQ's history of the job  6 RQ's registry of periodic
--       jobs  7 the queue's scheduled jobs

-- An error that names a key of another type, to be returned before the first write; else nil.
local function misfit()
    for i, kind in pairs({ [3] = 'list', [4] = 'set', [5] = 'zset', [6] = 'zset', [7] = 'zset' }) do
        local found = redis.call('TYPE', KEYS[i]).ok
        if found ~= 'none' and found ~= kind then
            return redis.error_reply('WRONGTYPE key=' .. KEYS[i] .. ' is a ' .. found .. ' and no ' .. kind)
        end
    end
end

-- A job as RQ enqueues it. fields: of its record, names and values. now: as RQ writes it. queue: the key
-- that RQ's set of queues holds. Nothing is done if there is a job with this id: Redis has lost the last
-- tick, and not the job.
local function enqueue(rq, id, fields, now, queue, front)
    local call, key = redis.call, rq .. ':job:' .. id
    local time = call('TIME')
    if call('EXISTS', key) == 1 then
        return
    end
    call('HSET', key, unpack(fields))
    local limit, ttl = call('HMGET', key, 'rate_limit_key')[1], tonumber(call('HGET', key, 'ttl') or '')
    if limit then -- whoever moves scheduled jobs knows the limit
        call('HSET', key, 'created_at', now, 'status', 'scheduled')
        if front then
            call('HSET', key, 'enqueue_at_front', '1')
        end
        call('ZADD', KEYS[7], time[1], id)
    else
        call('HSET', key, 'created_at', now, 'status', 'queued', 'enqueued_at', now)
        call(front and 'LPUSH' or 'RPUSH', KEYS[3], id)
    end
    if ttl and ttl > 0 then
        call('EXPIRE', key, ttl)
    end
    call('SADD', KEYS[4], queue)
    call('ZADD', KEYS[5], time[1] .. '.' .. string.format('%06d', time[2]), id)
end

-- RQ's own records of a periodic job. name: of the job. longest: its history, in jobs. kept: seconds.
local function record(name, longest, kept)
    redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -1 - tonumber(longest))
    redis.call('EXPIRE', KEYS[5], kept)
    redis.call('ZADD', KEYS[6], redis.call('TIME')[1], name)
end
