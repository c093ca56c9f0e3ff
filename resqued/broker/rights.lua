-- Find out which of these commands a script of this user may not call.
--
-- KEYS  1 a key of resqued's own, which is deleted afterwards
-- ARGV  the commands
--
-- Returns those that are forbidden, or unknown to the server. Other errors, due to the arguments or
-- to the state of the server, are ignored.

local WORDS = {
    HSET = { 'a', '1' }, HDEL = { 'a' }, HGET = { 'a' }, HMGET = { 'a' }, HINCRBY = { 'a', '1' },
    HINCRBYFLOAT = { 'a', '1' },
    ZADD = { '1', 'a' }, ZREM = { 'a' }, ZSCORE = { 'a' }, SADD = { 'a' }, SREM = { 'a' },
    XADD = { '*', 'a', '1' },
    LPUSH = { 'a' }, RPUSH = { 'a' }, LREM = { '0', 'a' }, LINDEX = { '0' },
    EXPIRE = { '1' },
}
local REFUSALS = { 'permissions to run', "can't run this command", '[Uu]nknown .*command' }

local forbidden = {}
for _, name in ipairs(ARGV) do
    local answer = redis.pcall(name, KEYS[1], unpack(WORDS[name] or {}))
    if type(answer) == 'table' and answer.err then
        for _, text in ipairs(REFUSALS) do
            if string.find(answer.err, text) then
                forbidden[#forbidden + 1] = name
                break
            end
        end
    end
end
redis.pcall('DEL', KEYS[1])
redis.pcall('EXPIRE', KEYS[1], '0') -- where DEL is forbidden
return forbidden
