-- Note that the stopped callback of an execution begins, unless another call has begun it.
--
-- KEYS  1 the execution's hash
-- ARGV  1 field  2 this call
--
-- Returns 1 if this call may run it, also when repeated after a lost reply. If the execution's hash
-- has expired in a long outage, none is created here: RQ could not read an incomplete one.

if redis.call('EXISTS', KEYS[1]) == 0 then
    return 1
end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 1 or 0
