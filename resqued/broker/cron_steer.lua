-- Pause or resume a periodic job, for all arbiters.
--
-- KEYS  1 the job's state  2 the counter of changes
-- ARGV  1 `pause` or `resume`  2 who pauses it, as JSON
--
-- Returns `done`, `already`, or `unknown`: there is no such job. Ticks count from now when it is resumed.

local call = redis.call
local time = call('TIME')
if call('HEXISTS', KEYS[1], 'digest') == 0 then
    return 'unknown'
elseif ARGV[1] == 'pause' then
    if call('HSETNX', KEYS[1], 'paused', ARGV[2]) == 0 then
        return 'already'
    end
elseif call('HDEL', KEYS[1], 'paused') == 0 then
    return 'already'
else
    call('HSET', KEYS[1], 'last', time[1] .. '.' .. string.format('%03d', math.floor(time[2] / 1000)))
end
call('INCR', KEYS[2])
return 'done'
