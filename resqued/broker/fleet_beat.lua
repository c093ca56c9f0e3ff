-- Enter an arbiter in the fleet, and forget those that were silent for a day.
--
-- KEYS  1 entries: hash, from an arbiter's identity to what it tells of itself
--       2 seen: sorted set, of these identities by the server's clock in seconds
-- ARGV  1 identity  2 what it tells; empty: it leaves  3 seconds after which an entry is dropped

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if ARGV[2] == '' then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('ZADD', KEYS[2], now, ARGV[1])
end
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, 100)
if #old > 0 then
    redis.call('ZREM', KEYS[2], unpack(old))
    redis.call('HDEL', KEYS[1], unpack(old))
end
return #old
