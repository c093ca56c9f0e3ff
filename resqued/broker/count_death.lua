-- Put back what a dead worker had claimed, and count the death: it may have died of reading the job.
--
-- KEYS  1 claims
-- ARGV  1 owner  2 suffix of the keys of intermediate lists  3 prefix of the keys of jobs
--       4 the limit of deaths  5 the event for its story (`tell.lua`), or empty
--
-- Returns {key of the queue, id, 0}, or nothing. At the limit the job stays claimed, and the caller
-- has to fail it; then the last element is 1.

local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
local id, queue = split(claim)
local job = ARGV[3] .. id
local deaths = redis.call('EXISTS', job) == 1 and redis.pcall('HINCRBY', job, 'deaths', 1)
if type(deaths) == 'number' and deaths >= tonumber(ARGV[4]) then
    return { queue, id, 1 }
end
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.pcall('LREM', queue .. ARGV[2], 1, id) == 0 then
    return false
end
back(queue, id)
tell(ARGV[5], id)
return { queue, id, 0 }
