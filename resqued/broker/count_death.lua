-- Put back what a worker had claimed that has died, maybe of reading it: its deaths are counted.
--
-- KEYS  1 claims
-- ARGV  1 owner  2 what ends the key of an intermediate list  3 what jobs' keys begin with
--       4 the limit of deaths
--
-- Answers {key of the queue, id, 0}, or nothing. At the limit the job stays claimed, for the caller
-- to fail it; then the answer ends with 1.

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
return { queue, id, 0 }
