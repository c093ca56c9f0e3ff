-- Be the one that calls the stopped callback of an execution.
--
-- KEYS  1 the execution's hash
-- ARGV  1 field  2 this call
--
-- Answers 1 if it is this one; again for the same call, whose first reply may have been lost. An
-- execution that has no hash (it has expired in a long outage) gets none here: half a hash could not
-- be read.

if redis.call('EXISTS', KEYS[1]) == 0 then
    return 1
end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 1 or 0
