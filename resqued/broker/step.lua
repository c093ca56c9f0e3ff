-- One step of a worker: write the outcome of the job in hand, then take the next job and start it.
--
-- The worker numbers its steps. A step whose reply was lost is sent again with the same number: it
-- returns what it returned before, and completes what Redis refused midway. A copy that arrives late
-- does nothing. Redis does not roll a script back, so the types of all keys are checked before the
-- first write, and a refusal after that is noted in the hand.
--
-- KEYS  1 hands  2 running  3 suspended  4 the worker's hash  5 its executions
--       6.. queues, in order of priority; none: take nothing
-- ARGV  1 owner  2 prefix of RQ's keys  3 the worker's name
--       4 seconds that an execution outlives the timeout of its job
--       5 its seconds if the job has no timeout  6 its longest  7 TTL of the worker's hash
--       8 limits of these queues (`full.lua`), or nothing
--       9 number of the step  10 `1` if it was sent before  11 token: the execution to come
--       12 now, as RQ writes it  13 now, in seconds  14 the same, whole
--       15 execution to end, or nothing; then its 16 job  17 queue  18 kind of outcome
--    kind nothing: RQ's own commands
--       19.. the commands, each after the number of its words
--    kind `finished`: a plain success
--       19 TTL of job and result; -1: none  20 score in the registry  21 seconds that the job took
--       22 `1` if its hash has resqued's counters  23 `1` if it depends on others
--       24 when it started  25 when it ended, as RQ writes it  26, 27 the same in seconds
--       28 what it returned, if that was anything
--
-- The hand is the value under the owner in `hands`. The worker creates it when it registers; it is
-- deleted when the worker is deregistered; without a hand a step does nothing. After step N it is
--       `N -E`                         nothing in hand
--       `N =E EXECUTION JOB QUEUE`     the job of this execution is started; QUEUE is its key
--       `N +E EXECUTION JOB QUEUE`     the same, but not all of the start is written
--       `N !K EXECUTION JOB QUEUE`     K commands of the outcome of this execution are written
-- E is 1 if the step has written an outcome, else 0.
--
-- Returns {E, what, ...}. what: `job` (id, key of the queue, then the job's hash), `none` (then the
-- keys of queues that are at their limit and not empty),
-- `suspended`, `unusual` (the next job has to be taken in RQ's way), `again` (this step was done
-- before and took nothing; send another), `other` (execution, job, key of the queue: in hand, but not
-- known to the worker). Or, with nothing done: {`unknown`} no hand, {`stale`} a late copy,
-- {`refused`, why} this outcome has to be written in RQ's way. Or an error.

local call, pcall_ = redis.call, redis.pcall
local hands, running, worker, executions = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local owner, rq, number, token = ARGV[1], ARGV[2], ARGV[9], ARGV[11]
local now, ending = ARGV[12], ARGV[15]
local MOST = 2000 -- words that Lua passes on at once, and RQ never sends

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

local function note(state, its, job, key)
    return pcall_('HSET', hands, owner, number .. ' ' .. state .. ' ' .. its .. ' ' .. job .. ' ' .. key)
end

local function is_of(key, kind)
    local found = call('TYPE', key).ok
    return found == 'none' or found == kind
end

-- The error of a command, as a reply.
local function refusal(problem)
    return type(problem) == 'table' and problem or { err = tostring(problem) }
end

-- The commands that start a job; repeatable.
local function start(job_id, key, timeout)
    local ttl, seconds = tonumber(ARGV[5]), tonumber(timeout)
    if seconds and seconds > 0 then
        ttl = math.min(seconds + tonumber(ARGV[4]), tonumber(ARGV[6]))
    end
    local name, both = string.sub(key, #rq + 8), job_id .. ':' .. token
    local its, of_job = rq .. ':execution:' .. both, rq .. ':executions:' .. job_id
    local until_, job = tonumber(ARGV[14]) + ttl, rq .. ':job:' .. job_id
    call('HSET', running, both, cjson.encode({ owner, name }))
    call('ZADD', rq .. ':wip:' .. name, until_, both)
    call('HSET', its, 'id', token, 'job_id', job_id, 'created_at', ARGV[13],
        'last_heartbeat', ARGV[13], 'worker_name', ARGV[3])
    call('EXPIRE', its, ttl)
    call('ZADD', of_job, until_ + 60, token)
    call('EXPIRE', of_job, ttl + 60)
    call('SADD', executions, both)
    call('EXPIRE', executions, ttl + 60)
    call('HSET', job, 'last_heartbeat', now, 'status', 'started', 'started_at', now,
        'worker_name', ARGV[3])
    call('PERSIST', job)
    call('HSET', worker, 'state', 'busy', 'last_heartbeat', now)
    call('EXPIRE', worker, math.max(ttl, tonumber(ARGV[7])))
end

-- The error, if one of them is refused; it is noted in the hand.
local function start_or_note(job_id, key, timeout)
    local done, problem = pcall(start, job_id, key, timeout)
    if not done then
        note('+' .. E, token, job_id, key)
        return refusal(problem)
    end
end

local function timeout_of(hash)
    for i = 1, #hash, 2 do
        if hash[i] == 'timeout' then
            return hash[i + 1]
        end
    end
    return ''
end

local again = ahead == 0 and mark ~= '!'
if again then
    if mark == '-' then
        return { E, 'again' }
    end
    local hash = call('HGETALL', rq .. ':job:' .. id)
    if execution == token then
        if mark == '+' then
            local problem = start_or_note(id, queue, timeout_of(hash))
            if problem then
                return problem
            end
            note('=' .. E, token, id, queue)
        end
        return { E, 'job', id, queue, unpack(hash) }
    end
    return { E, 'other', execution, id, queue }
end

-- The outcome.

local resumed = ahead == 0 -- Redis refused one of its commands
local done = resumed and tonumber(E) or 0 -- of its commands
local seen = '' -- the registry of executions that was looked at
E = '0'

-- A plain success. Commands that must not be repeated come last, and are counted.
local function finish(job_id, job, both, wip, finished, results, of_job)
    local ttl = tonumber(ARGV[19])
    if done < 1 then
        call('HSET', job, 'status', 'finished', 'started_at', ARGV[24], 'ended_at', ARGV[25],
            'last_heartbeat', ARGV[25])
        if ttl > 0 then
            call('EXPIRE', job, ttl)
            if ARGV[23] == '1' then
                call('EXPIRE', rq .. ':job::' .. job_id .. ':dependencies', ttl) -- RQ has two colons
            end
        else
            call('PERSIST', results)
        end
        if ARGV[22] == '1' then
            call('HDEL', job, 'interruptions', 'deaths', 'unknown', 'unbegun')
        end
        call('ZADD', finished, ARGV[20], job_id)
        call('DEL', rq .. ':execution:' .. both)
        call('ZREM', wip, both)
        call('ZREM', of_job, ending)
        call('SREM', executions, both)
        call('HDEL', running, both)
        done = 1
    end
    if done < 2 then
        call('HINCRBY', worker, 'successful_job_count', 1)
        done = 2
    end
    if done < 3 then
        call('HINCRBYFLOAT', worker, 'total_working_time', ARGV[21])
        done = 3
    end
    if done < 4 then
        local words = { 'type', '1', 'worker_name', ARGV[3] }
        if ARGV[28] then
            words[5], words[6] = 'return_value', ARGV[28]
        end
        local n = #words
        words[n + 1], words[n + 2] = 'execution_id', ending
        words[n + 3], words[n + 4] = 'execution_started_at', ARGV[26]
        words[n + 5], words[n + 6] = 'execution_ended_at', ARGV[27]
        call('XADD', results, 'MAXLEN', '~', '10', '*', unpack(words))
        done = 4
    end
    if ttl > 0 then
        call('EXPIRE', results, ttl)
    end
end

local TYPES = {
    HSET = 'hash', HDEL = 'hash', HINCRBY = 'hash', HINCRBYFLOAT = 'hash',
    ZADD = 'zset', ZREM = 'zset', SADD = 'set', SREM = 'set', XADD = 'stream',
    LPUSH = 'list', RPUSH = 'list', LREM = 'list',
    DEL = 'any', EXPIRE = 'any', PERSIST = 'any',
}

-- The positions of RQ's commands among the arguments; or the one that this script does not send.
local function read_commands()
    local commands, at = {}, 19
    while at <= #ARGV do
        local count, name, key = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
        local kind = TYPES[name]
        local seconds = name ~= 'EXPIRE' and 0 or tonumber(ARGV[at + 3])
        if not kind or count > MOST or not seconds or math.abs(seconds) >= 1e12
            or done == 0 and kind ~= 'any' and not is_of(key, kind) then
            return nil, name .. ' ' .. key
        end
        commands[#commands + 1] = { at + 1, at + count }
        at = at + count + 1
    end
    return commands
end

local in_hand = mark ~= '-'
if ending ~= '' then
    local job_id, wip = ARGV[16], rq .. ':wip:' .. ARGV[17]
    local job, both = rq .. ':job:' .. job_id, job_id .. ':' .. ending
    if not in_hand or execution ~= ending then
        return { 'refused', 'it is not in hand' }
    end
    if not resumed then
        -- It has been ended, or the registry was lost: RQ's way finds out which.
        local score = pcall_('ZSCORE', wip, both)
        if type(score) == 'table' and score.err then
            return string.find(score.err, '^WRONGTYPE') and { 'refused', 'ZSCORE ' .. wip } or score
        elseif not score then
            return { 'refused', 'it is not listed' }
        end
        local found = call('TYPE', job).ok
        if found ~= 'hash' then
            return { 'refused', found == 'none' and 'the job is gone' or 'HSET ' .. job }
        end
        if call('EXISTS', job .. ':dependents') == 1 then
            return { 'refused', 'it has dependents' }
        end
    end
    seen = wip
    if ARGV[18] == 'finished' then
        local finished, results = rq .. ':finished:' .. ARGV[17], rq .. ':results:' .. job_id
        local of_job = rq .. ':executions:' .. job_id
        if not resumed then
            local odd = not is_of(results, 'stream') and results
                or not is_of(finished, 'zset') and finished
                or not is_of(of_job, 'zset') and of_job
                or not is_of(executions, 'set') and executions
                or not is_of(worker, 'hash') and worker
                or not is_of(running, 'hash') and running
            if odd then
                return { 'refused', 'of another type: ' .. odd }
            end
        end
        local written, problem = pcall(finish, job_id, job, both, wip, finished, results, of_job)
        if not written then
            note('!' .. done, execution, id, queue)
            return refusal(problem)
        end
    else
        local commands, odd = read_commands()
        if not commands then
            return { 'refused', odd }
        end
        -- The first write: if memory is short, Redis refuses this one or none.
        local answer = note('!' .. done, execution, id, queue)
        if type(answer) == 'table' and answer.err then
            return answer
        end
        for i = done + 1, #commands do
            answer = pcall_(unpack(ARGV, commands[i][1], commands[i][2]))
            if type(answer) == 'table' and answer.err then
                note('!' .. (i - 1), execution, id, queue)
                return answer
            end
        end
    end
    E, in_hand = '1', false
end
if in_hand then -- Redis was restored to an older state
    return { E, 'other', execution, id, queue }
end

-- The next job. The hand is written before the id leaves its queue, so that no job is lost.

local function rest(what)
    if ending ~= '' or ARGV[10] == '1' then
        call('HSET', hands, owner, number .. ' -' .. E)
    end
    if ending ~= '' then
        call('HSET', worker, 'state', 'idle', 'last_heartbeat', now)
        call('EXPIRE', worker, ARGV[7])
    end
    return { E, what }
end

-- Whether all keys that starting a job writes have the right type. A key with the token is new.
local function is_startable(job_id, wip)
    if ending == '' and not (is_of(running, 'hash') and is_of(executions, 'set') and is_of(worker, 'hash')) then
        return false
    end
    return is_of(rq .. ':executions:' .. job_id, 'zset') and (wip == seen or is_of(wip, 'zset'))
end

if #KEYS == 5 then
    return rest('none')
end
if call('EXISTS', KEYS[3]) == 1 then
    return rest('suspended')
end
local limits = ARGV[8] ~= '' and read_limits(ARGV[8])
local full = { 0, 0 }
for i = 6, #KEYS do
    local key = KEYS[i]
    local next_id = pcall_('LINDEX', key, 0)
    if type(next_id) == 'table' then
        return rest('unusual')
    end
    if next_id and limits and is_full(limits[key], ARGV[13]) then
        full[#full + 1] = key
    elseif next_id then
        if #next_id > 255 or not string.find(next_id, '^[%w_.:-]+$') then
            return rest('unusual')
        end
        local hash = pcall_('HGETALL', rq .. ':job:' .. next_id)
        if hash.err or #hash == 0 or #hash >= MOST then
            return rest('unusual')
        end
        local origin, data, timeout = string.sub(key, #rq + 8), false, ''
        for j = 1, #hash, 2 do
            local field = hash[j]
            if field == 'data' then
                data = true
            elseif field == 'origin' then
                if hash[j + 1] ~= origin then
                    return rest('unusual')
                end
            elseif field == 'timeout' then
                timeout = hash[j + 1]
                if not string.find(timeout, '^-?%d%d?%d?%d?%d?%d?%d?%d?%d?$') then
                    return rest('unusual')
                end
            end
        end
        if not data or not is_startable(next_id, rq .. ':wip:' .. origin) then
            return rest('unusual')
        end
        call('HSET', hands, owner, number .. ' =' .. E .. ' ' .. token .. ' ' .. next_id .. ' ' .. key)
        local popped = pcall_('LPOP', key)
        if type(popped) == 'table' then
            call('HSET', hands, owner, number .. ' -' .. E)
            return popped
        end
        local problem = start_or_note(next_id, key, timeout)
        if problem then
            return problem
        end
        return { E, 'job', next_id, key, unpack(hash) }
    end
end
full[1], full[2] = unpack(rest('none'))
return full
