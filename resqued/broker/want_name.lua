-- Take a worker's name, unless a living worker has it.
--
-- KEYS  1 the worker's key
-- ARGV  1 the field of the owner  2 the owner that wants the name  3 the owner that may lose it  4 now, as RQ writes it
--       5 TTL of the key
--
-- Returns nothing on success, else who has the name: {owner, birth, last heartbeat}.

if redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HEXISTS', KEYS[1], 'death') == 0 then
    local bearer = redis.call('HGET', KEYS[1], ARGV[1]) or ''
    if bearer ~= ARGV[2] and (bearer == '' or bearer ~= ARGV[3]) then
        local birth = redis.call('HGET', KEYS[1], 'birth') or ''
        if bearer ~= '' or birth ~= '' then
            return { bearer, birth, redis.call('HGET', KEYS[1], 'last_heartbeat') or '' }
        end
    end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'last_heartbeat', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return false
