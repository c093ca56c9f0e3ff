-- The heartbeat of an arbiter that keeps periodic jobs, for others of resqued and as RQ's cron
-- schedulers give it.
--
-- ARGV  1 the arbiter  2 prefix of RQ's keys  3 seconds after which an entry is dropped
--       4 seconds for which RQ takes a scheduler for living
--
-- Returns {clock, known, heard, changes, rivals}. clock: Redis's, in seconds. known: 1 if Redis still has
-- what this arbiter has announced. heard: when its last heartbeat was; 0: never. changes: a number
-- that grows when a definition or a pause changes. rivals: name, host, pid and jobs (JSON) of each
-- living scheduler of RQ that is no resqued.

local call, pcall_ = redis.call, redis.pcall
local arbiter, rq = ARGV[1], ARGV[2]
local cron = rq .. ':resqued:cron:'
local seen, own = cron .. 'seen', cron .. 'arbiter:' .. arbiter
local time = call('TIME')
local clock = tonumber(time[1]) + tonumber(time[2]) / 1e6

local known = call('EXISTS', own)
local heard = call('ZSCORE', seen, arbiter) or '0'
for _, set in ipairs({ 'seen', 'left' }) do
    call('ZREMRANGEBYSCORE', cron .. set, '-inf', '(' .. string.format('%.3f', clock - ARGV[3]))
end
call('ZADD', seen, string.format('%.3f', clock), arbiter)
call('EXPIRE', own, ARGV[3])

local rivals = {}
local schedulers = pcall_('ZRANGEBYSCORE', rq .. ':cron_schedulers', clock - ARGV[4], '+inf')
if schedulers.err then
    schedulers = {}
else
    call('ZADD', rq .. ':cron_schedulers', string.format('%.3f', clock), arbiter)
    pcall_('EXPIRE', rq .. ':cron_scheduler:' .. arbiter, ARGV[4])
end
for _, name in ipairs(schedulers) do
    local told = pcall_('HMGET', rq .. ':cron_scheduler:' .. name, 'hostname', 'pid', 'cron_jobs', 'resqued')
    if not told.err and told[3] and not told[4] then
        rivals[#rivals + 1] = name
        for i = 1, 3 do
            rivals[#rivals + 1] = told[i] or ''
        end
    end
end
local changes = pcall_('GET', cron .. 'changes')
return { string.format('%.6f', clock), known, heard, type(changes) == 'string' and changes or '0', rivals }
