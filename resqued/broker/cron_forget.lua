-- Forget periodic jobs that no arbiter has had for long, and what an arbiter has announced and has no
-- more.
--
-- ARGV  1 prefix of RQ's keys  2 seconds after which a job is forgotten  3 the arbiter
--       4 seconds since its generation was loaded  5 seconds after which an arbiter that is not heard of is
--       dead  6 seconds for which a job that nobody has is not heard of  7.. the jobs that it has
--
-- Returns the jobs that are forgotten. `cron_orphan` is put before this one.

local call = redis.call
local cron = ARGV[1] .. ':resqued:cron:'
local own = cron .. 'arbiter:' .. ARGV[3]
local clock = call('TIME')[1]
local has = { [''] = true }
for i = 7, #ARGV do
    has[ARGV[i]] = true
end
local newest = tonumber(call('HGET', own, '') or '')
if newest and clock - tonumber(ARGV[4]) >= newest - 1.5 then
    local lost = {}
    for _, job in ipairs(call('HKEYS', own)) do
        if not has[job] then
            call('HDEL', own, job)
            lost[#lost + 1] = job
        end
    end
    orphan(cron, ARGV[3], lost, clock, clock, tonumber(ARGV[5]), tonumber(ARGV[6]))
end
local old = call('ZRANGEBYSCORE', cron .. 'jobs', '-inf', clock - tonumber(ARGV[2]))
for _, job in ipairs(old) do
    call('DEL', cron .. 'job:' .. job, cron .. 'template:' .. job)
    call('ZREM', cron .. 'jobs', job)
end
return old
