-- Forget periodic jobs that no arbiter has had for long, and what an arbiter has announced and has no
-- more.
--
-- ARGV  1 prefix of RQ's keys  2 seconds after which a job is forgotten  3 the arbiter
--       4 seconds since its generation was loaded  5.. the jobs that it has
--
-- Returns the jobs that are forgotten.

local call = redis.call
local cron = ARGV[1] .. ':resqued:cron:'
local own = cron .. 'arbiter:' .. ARGV[3]
local clock = call('TIME')[1]
local has = { [''] = true }
for i = 5, #ARGV do
    has[ARGV[i]] = true
end
local newest = tonumber(call('HGET', own, '') or '')
if newest and clock - tonumber(ARGV[4]) >= newest - 1.5 then
    for _, job in ipairs(call('HKEYS', own)) do
        if not has[job] then
            call('HDEL', own, job)
        end
    end
end
local old = call('ZRANGEBYSCORE', cron .. 'jobs', '-inf', clock - tonumber(ARGV[2]))
for _, job in ipairs(old) do
    call('DEL', cron .. 'job:' .. job, cron .. 'template:' .. job)
    call('ZREM', cron .. 'jobs', job)
end
return old
