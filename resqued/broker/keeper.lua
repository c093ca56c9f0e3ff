-- Takes or keeps the lock of a duty. KEYS: the hash of all keepers, the lock. ARGV: the duty's name,
-- the holder, milliseconds that the lock lives, the last token of the calling process (0: none).
-- Answers { token, milliseconds until the duty is due }, or { 0, milliseconds until the lock ends }.
local call = redis.call
local name, holder, life, known = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function number(text)
    return tonumber(text or '') or 0
end

local function kept(token)
    local due = number(call('HGET', KEYS[1], 'due ' .. name)) * 1000
    return { token, string.format('%.0f', math.max(0, due - now)) }
end

local value = call('GET', KEYS[2])
if value then
    local token, other = string.match(value, '^(%d+) (.*)$')
    if token == known and other == holder then
        call('PEXPIRE', KEYS[2], life)
        return kept(token)
    end
    -- A process without a token is a successor, if the lock is its own arbiter's. One whose token is
    -- another has been succeeded.
    if token and (other ~= holder or known ~= '0') then
        return { '0', string.format('%.0f', call('PTTL', KEYS[2])) }
    end
end

local before = call('HGET', KEYS[1], 'token ' .. name)
if not value and before and before == known then -- the lock has ended, and nobody has taken it
    call('SET', KEYS[2], known .. ' ' .. holder, 'PX', life)
    return kept(known)
end
local token = string.format('%.0f', math.max(number(call('HGET', KEYS[1], 'last')) + 1, now))
if before then
    call('HDEL', KEYS[1], 'duty ' .. before)
end
call('HSET', KEYS[1], 'last', token, 'token ' .. name, token, 'duty ' .. token, name)
call('SET', KEYS[2], token .. ' ' .. holder, 'PX', life)
return kept(token)
