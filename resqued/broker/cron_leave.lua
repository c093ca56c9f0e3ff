-- An arbiter leaves in order: others need not wait for it.
--
-- ARGV  1 the arbiter  2 prefix of RQ's keys  3 seconds after which an arbiter that is not heard of is dead
--       4 seconds for which a job that nobody has is not heard of
--
-- `cron_orphan` is put before this one.

local call = redis.call
local arbiter, cron = ARGV[1], ARGV[2] .. ':resqued:cron:'
local time = call('TIME')
local seen = call('ZSCORE', cron .. 'seen', arbiter)
call('INCR', cron .. 'changes') -- those that have an older definition look again at once
if seen then
    call('ZADD', cron .. 'left', seen, arbiter)
    call('ZREM', cron .. 'seen', arbiter)
    local clock, jobs = tonumber(time[1]) + tonumber(time[2]) / 1e6, call('HKEYS', cron .. 'arbiter:' .. arbiter)
    orphan(cron, arbiter, jobs, clock, tonumber(seen), tonumber(ARGV[3]), tonumber(ARGV[4]))
end
