-- One step of a worker: write the outcome of the job in hand, then take the next job and start it.
--
-- Steps are numbered by the worker. A step whose reply was lost is sent again with the same number:
-- it answers what it did before, and completes it if Redis refused a command midway. A copy that
-- comes late does nothing. Redis does not roll a script back, so the types of all keys are looked
-- at before the first write, and each refusal after it is noted in the hand.
--
-- KEYS  1 hands  2 running  3 suspended  4 the worker's hash  5 its executions
--       6.. queues, in order of priority; none: take nothing
-- ARGV  1 owner  2 number of the step  3 `1` if it was sent before  4 token: the execution to come
--       5 now, as RQ writes it  6 now, in seconds  7 the same, whole  8 prefix of RQ's keys
--       9 the worker's name  10 seconds that an execution outlives the timeout of its job
--       11 its seconds if the job has no timeout  12 its longest  13 TTL of the worker's hash
--       14 execution to end, or nothing; then its 15 job  16 queue  17 `1` if dependents matter
--       18.. the commands of the outcome, each after the number of its words
--
-- The hand is the value under the owner in `hands`. The worker makes it when it registers, and who
-- deregisters the worker deletes it; without a hand a step does nothing. After step N it is
--       `N -E`                         nothing in hand
--       `N =E EXECUTION JOB QUEUE`     the job of this execution is started; QUEUE is its key
--       `N +E EXECUTION JOB QUEUE`     the same, but not all of the start is written
--       `N !K EXECUTION JOB QUEUE`     K commands of the outcome of this execution are written
-- E is 1 if the step has written an outcome, else 0.
--
-- Answers {E, what, ...}. what: `job` (id, key of the queue, then the job's hash), `none`,
-- `suspended`, `unusual` (the next job has to be taken in RQ's way), `again` (this step was done
-- before and took nothing; look again), `other` (execution, job, key of the queue: in hand, but not
-- known to the worker). Or, with nothing done: {`unknown`} no hand, {`stale`} a late copy,
-- {`refused`, why} this outcome has to be written in RQ's way. Or an error.

local call, pcall_ = redis.call, redis.pcall
local hands, running, worker, executions = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local owner, number, token, rq = ARGV[1], ARGV[2], ARGV[4], ARGV[8]
local ending = ARGV[14]
local MOST = 2000 -- words that Lua passes on at once, and RQ never sends

local TYPES = {
    HSET = 'hash', HDEL = 'hash', HINCRBY = 'hash', HINCRBYFLOAT = 'hash',
    ZADD = 'zset', ZREM = 'zset', SADD = 'set', SREM = 'set', XADD = 'stream',
    LPUSH = 'list', RPUSH = 'list', LREM = 'list',
    DEL = 'any', EXPIRE = 'any', PERSIST = 'any',
}

-- Seconds that Redis may refuse: then nothing of the outcome is written here.
local function is_odd(name, at)
    local seconds = name == 'EXPIRE' and tonumber(ARGV[at + 2])
    return name == 'EXPIRE' and not (seconds and math.abs(seconds) < 1e12)
end

local function is_of(key, kind)
    local found = call('TYPE', key).ok
    return found == 'none' or found == kind
end

local function note(state, execution, id, queue)
    return pcall_('HSET', hands, owner,
        number .. ' ' .. state .. ' ' .. execution .. ' ' .. id .. ' ' .. queue)
end

local function failed(answer)
    return type(answer) == 'table' and answer.err
end

-- Where a job's execution stands, and the commands that start it. They may be repeated.
local function start(id, key, hash)
    local timeout = ''
    for i = 1, #hash, 2 do
        if hash[i] == 'timeout' then
            timeout = hash[i + 1]
        end
    end
    local ttl = tonumber(ARGV[11])
    if tonumber(timeout) and tonumber(timeout) > 0 then
        ttl = math.min(tonumber(timeout) + tonumber(ARGV[10]), tonumber(ARGV[12]))
    end
    local name, both, now = string.sub(key, #rq + 8), id .. ':' .. token, tonumber(ARGV[7])
    local execution, its = rq .. ':execution:' .. both, rq .. ':executions:' .. id
    local longest = math.max(ttl, tonumber(ARGV[13]))
    return {
        { 'HSET', running, both, cjson.encode({ owner, name }) },
        { 'ZADD', rq .. ':wip:' .. name, now + ttl, both },
        { 'HSET', execution, 'id', token, 'job_id', id, 'created_at', ARGV[6],
            'last_heartbeat', ARGV[6], 'worker_name', ARGV[9] },
        { 'EXPIRE', execution, ttl },
        { 'ZADD', its, now + ttl + 60, token },
        { 'EXPIRE', its, ttl + 60 },
        { 'SADD', executions, both },
        { 'EXPIRE', executions, ttl + 60 },
        { 'HSET', rq .. ':job:' .. id, 'last_heartbeat', ARGV[5], 'status', 'started',
            'started_at', ARGV[5], 'worker_name', ARGV[9] },
        { 'PERSIST', rq .. ':job:' .. id },
        { 'HSET', worker, 'state', 'busy', 'last_heartbeat', ARGV[5] },
        { 'EXPIRE', worker, longest },
    }
end

local function is_startable(commands)
    for _, words in ipairs(commands) do
        if not is_of(words[2], TYPES[words[1]]) and TYPES[words[1]] ~= 'any' then
            return false
        end
    end
    return true
end

-- An error, if one of the commands is refused; the hand tells of it.
local function carry_out_start(commands, E, id, key)
    for _, words in ipairs(commands) do
        local answer = pcall_(unpack(words))
        if failed(answer) then
            note('+' .. E, token, id, key)
            return answer
        end
    end
end

local hand = call('HGET', hands, owner)
if not hand then
    return { 'unknown' }
end
local before, mark, E, execution, id, queue =
    string.match(hand, '^(%d+) (.)(%d+) ?(%S*) ?(%S*) ?(.*)$')
local ahead = tonumber(number) - tonumber(before)
if ahead < 0 then
    return { 'stale' }
end
local again = ahead == 0 and mark ~= '!'
local done = ahead == 0 and mark == '!' and tonumber(E) or 0

if again then
    if mark == '-' then
        return { E, 'again' }
    end
    local hash = call('HGETALL', rq .. ':job:' .. id)
    if execution == token then
        if mark == '+' then
            local refusal = carry_out_start(start(id, queue, hash), E, id, queue)
            if refusal then
                return refusal
            end
            note('=' .. E, token, id, queue)
        end
        return { E, 'job', id, queue, unpack(hash) }
    end
    return { E, 'other', execution, id, queue }
end

-- The outcome.

E = '0'
local in_hand = mark ~= '-'
if ending ~= '' then
    local job, wip = rq .. ':job:' .. ARGV[15], rq .. ':wip:' .. ARGV[16]
    if not in_hand or execution ~= ending then
        return { 'refused', 'it is not in hand' }
    end
    if done == 0 then
        -- Somebody has ended it, or the registry was lost: RQ's way finds out.
        if not call('ZSCORE', wip, ARGV[15] .. ':' .. ending) then
            return { 'refused', 'it is not listed' }
        end
        if call('EXISTS', job) == 0 then
            return { 'refused', 'the job is gone' }
        end
        if ARGV[17] == '1' and call('EXISTS', job .. ':dependents') == 1 then
            return { 'refused', 'it has dependents' }
        end
    end
    local commands, at = {}, 18
    while at <= #ARGV do
        local count = tonumber(ARGV[at])
        local name, key = ARGV[at + 1], ARGV[at + 2]
        local kind = TYPES[name]
        if not kind or count > MOST or is_odd(name, at + 1) or done == 0 and kind ~= 'any' and not is_of(key, kind) then
            return { 'refused', name .. ' ' .. key }
        end
        commands[#commands + 1] = { at + 1, at + count }
        at = at + count + 1
    end
    -- The first write: where memory is short, Redis refuses this one, or none.
    local refusal = note('!' .. done, execution, id, queue)
    if failed(refusal) then
        return refusal
    end
    for i = done + 1, #commands do
        local answer = pcall_(unpack(ARGV, commands[i][1], commands[i][2]))
        if failed(answer) then
            note('!' .. (i - 1), execution, id, queue)
            return answer
        end
    end
    E, in_hand = '1', false
end
if in_hand then -- Redis went back in time, and knows an older hand
    return { E, 'other', execution, id, queue }
end

-- The next job. The hand is written before an id leaves its queue, so no id is ever nowhere.

local function rest(what)
    if ending ~= '' or ARGV[3] == '1' then
        call('HSET', hands, owner, number .. ' -' .. E)
    end
    if ending ~= '' then
        call('HSET', worker, 'state', 'idle', 'last_heartbeat', ARGV[5])
    end
    return { E, what }
end

if #KEYS == 5 then
    return rest('none')
end
if call('EXISTS', KEYS[3]) == 1 then
    return rest('suspended')
end
for i = 6, #KEYS do
    local key = KEYS[i]
    local next_id = pcall_('LINDEX', key, 0)
    if failed(next_id) then
        return rest('unusual')
    end
    if next_id then
        if #next_id > 255 or not string.find(next_id, '^[%w_.:-]+$') then
            return rest('unusual')
        end
        local hash = pcall_('HGETALL', rq .. ':job:' .. next_id)
        if failed(hash) or #hash == 0 or #hash >= MOST then
            return rest('unusual')
        end
        local origin, data = string.sub(key, #rq + 8), false
        for j = 1, #hash, 2 do
            local field, value = hash[j], hash[j + 1]
            if field == 'data' then
                data = true
            elseif field == 'origin' and value ~= origin then
                return rest('unusual')
            elseif field == 'timeout' and not string.find(value, '^-?%d%d?%d?%d?%d?%d?%d?%d?%d?$') then
                return rest('unusual')
            end
        end
        local commands = start(next_id, key, hash)
        if not data or not is_startable(commands) then
            return rest('unusual')
        end
        call('HSET', hands, owner, number .. ' =' .. E .. ' ' .. token .. ' ' .. next_id .. ' ' .. key)
        local popped = pcall_('LPOP', key)
        if failed(popped) then
            call('HSET', hands, owner, number .. ' -' .. E)
            return popped
        end
        local refusal = carry_out_start(commands, E, next_id, key)
        if refusal then
            return refusal
        end
        return { E, 'job', next_id, key, unpack(hash) }
    end
end
return rest('none')
