-- Enqueue one job of a periodic job now, on a person's request. Moves no tick.
--
-- KEYS  1 the job's state  2 the fields of its records  3 to 7 as `cron_record`, which is put before
-- ARGV  1 prefix of RQ's keys  2 the job  3 seconds after which an arbiter that is not heard of is dead
--       4 the definition's digest  5 id of the new job  6 now, as RQ writes it  7 name of the job  8 key
--       of the queue  9 `1`: at the front  10 RQ's longest history  11 seconds that it lives
--
-- Returns `done`; `other` if another definition is in force by now; `alone` if no living arbiter has it.

local call = redis.call
local cron = ARGV[1] .. ':resqued:cron:'
local clock = call('TIME')[1]
if call('HGET', KEYS[1], 'digest') ~= ARGV[4] then
    return 'other'
end
local lives = false
for _, arbiter in ipairs(call('ZRANGEBYSCORE', cron .. 'seen', clock - tonumber(ARGV[3]), '+inf')) do
    lives = lives or call('HEXISTS', cron .. 'arbiter:' .. arbiter, ARGV[2]) == 1
end
local fields = call('HGETALL', KEYS[2])
if not lives or #fields == 0 then
    return 'alone'
end
local wrong = misfit()
if wrong then
    return wrong
end
enqueue(ARGV[1], ARGV[5], fields, ARGV[6], ARGV[8], ARGV[9] == '1')
record(ARGV[7], ARGV[10], ARGV[11])
return 'done'
