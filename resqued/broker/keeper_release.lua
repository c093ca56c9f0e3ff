-- What the keeper of a duty does after a call, or when it leaves. KEYS: the hash of all keepers, the
-- lock. ARGV: due or release, the duty's name, the holder, its token, seconds until the duty is due.
-- Does nothing if there is a newer keeper.
local call = redis.call
if call('HGET', KEYS[1], 'token ' .. ARGV[2]) ~= ARGV[4] then
    return 0
end
if ARGV[1] == 'due' then
    local time = call('TIME')
    local due = tonumber(time[1]) + tonumber(time[2]) / 1000000 + tonumber(ARGV[5])
    call('HSET', KEYS[1], 'due ' .. ARGV[2], string.format('%.3f', due))
elseif call('GET', KEYS[2]) == ARGV[4] .. ' ' .. ARGV[3] then
    call('DEL', KEYS[2])
end
return 1
