-- Take or keep the schedulers' locks of queues, and see what is due in those that are held.
--
-- KEYS  for each queue: its scheduler's lock, its registry of scheduled jobs
-- ARGV  1 who holds the locks  2 their life in milliseconds
--
-- Returns for each queue: whether the lock is held (`held`, `other`, or `odd` if a key has another
-- type), the number of jobs that are due, the seconds until the next one is (empty: there is none), and
-- the seconds by which the first is overdue (empty: none is due).
-- The clock is Redis's: it is one for all hosts.

local call, pcall_ = redis.call, redis.pcall
local holder, life = ARGV[1], tonumber(ARGV[2])
local time = call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local found = {}

local function is_error(answer)
    return type(answer) == 'table' and answer.err ~= nil
end

local function look(lock, registry)
    local it = pcall_('GET', lock)
    if is_error(it) then
        return 'odd', 0, '', ''
    elseif not it then
        call('SET', lock, holder, 'PX', life)
    elseif it ~= holder then
        return 'other', 0, '', ''
    elseif call('PTTL', lock) < life / 2 then
        call('PEXPIRE', lock, life)
    end
    local due = pcall_('ZCOUNT', registry, '-inf', now)
    if is_error(due) then
        return 'odd', 0, '', ''
    end
    local next = call('ZRANGEBYSCORE', registry, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local first = due > 0 and call('ZRANGE', registry, 0, 0, 'WITHSCORES')[2]
    return 'held', due, next[2] and string.format('%.6f', tonumber(next[2]) - now) or '',
        first and string.format('%.3f', now - tonumber(first)) or ''
end

for i = 1, #KEYS, 2 do
    local at = #found
    found[at + 1], found[at + 2], found[at + 3], found[at + 4] = look(KEYS[i], KEYS[i + 1])
end
return found
