-- A function for scripts after which an arbiter has some periodic jobs no more. It is put before them.

-- Note of those that no other living arbiter has that they are nobody's. cron: prefix of the keys. clock,
-- heard: seconds; now, and until when this arbiter had them. life: seconds after which an arbiter that is
-- not heard of is dead. silent: seconds for which a job is not heard of then.
local function orphan(cron, arbiter, jobs, clock, heard, life, silent)
    local call = redis.call
    local living = call('ZRANGEBYSCORE', cron .. 'seen', clock - life, '+inf')
    for _, job in ipairs(jobs) do
        local is_kept = job == '' -- it is no job: when the generation was loaded
        for _, other in ipairs(living) do
            is_kept = is_kept or other ~= arbiter and call('HEXISTS', cron .. 'arbiter:' .. other, job) == 1
        end
        if not is_kept and call('HEXISTS', cron .. 'job:' .. job, 'digest') == 1 then
            call('HSET', cron .. 'job:' .. job, 'until', string.format('%.3f', heard))
            call('ZADD', cron .. 'jobs', 'XX', string.format('%.3f', clock - silent), job)
        end
    end
end
