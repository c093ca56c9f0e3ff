-- Give up a claim: the job goes back to the front of its queue, or is let go.
--
-- KEYS  1 claims
-- ARGV  1 owner  2 what ends the key of an intermediate list  3 `1`: put the job back; `0`: let it go
--       4 the job, if only this one is meant
--
-- Answers the id of what was put back, or nothing. What is no longer in the intermediate list has
-- been dealt with by RQ's maintenance, whose note of when it first saw the id there goes too: the
-- next time counts anew. A list that somebody has overwritten says nothing.

local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
local id, queue = split(claim)
if ARGV[4] ~= '' and ARGV[4] ~= id then
    return false
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', queue .. ARGV[2] .. ':first_seen:' .. id)
if redis.pcall('LREM', queue .. ARGV[2], 1, id) == 0 or ARGV[3] == '0' then
    return false
end
back(queue, id)
return id
