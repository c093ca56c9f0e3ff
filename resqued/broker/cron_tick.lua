-- Enqueue ticks of a periodic job, and be done with them: the last tick is compared and set in the same
-- step, so each is enqueued once, whoever tries.
--
-- KEYS  1 the job's state  2 the fields of its records  3 the queue's list  4 RQ's set of queues
--       5 RQ's history of the job  6 RQ's registry of periodic jobs  7 the queue's scheduled jobs
-- ARGV  1 the arbiter  2 prefix of RQ's keys  3 digest of the definition  4 the last tick, as it was
--       5 the last tick, as it becomes  6 when the newest of them is due  7 a word for this call
--       8 `skip`: not while the last job is unfinished  9 now, as RQ writes it
--       10 RQ's longest history  11 seconds that it lives  12 name of the job  13 key of the queue
--       14 `1`: at the front  15 how many ticks are missed  16.. ids of the jobs, the oldest first
--
-- Returns {what, clock, last, paused, keeper, status}. what: `done`; `overlap`, with the status of the
-- last job; `other` if another definition is in force, or none; `paused`; `moved` if the last tick is
-- another; `early` by Redis's clock. An error, and nothing is done, if a key has another type.
--
-- `cron_record` is put before this one.

local call, pcall_ = redis.call, redis.pcall
local rq = ARGV[2]
local time = call('TIME')
local second = tonumber(time[1])
local clock = second + tonumber(time[2]) / 1e6
local MOST_OPEN = 20 -- jobs of which it is remembered that they have not ended
local UNFINISHED = { queued = true, started = true, scheduled = true, rate_limited = true, deferred = true }

local function answer(what, status)
    local told = call('HMGET', KEYS[1], 'last', 'paused', 'keeper')
    return { what, string.format('%.6f', clock), told[1] or '', told[2] or '', told[3] or '', status or '' }
end

local state = call('HMGET', KEYS[1], 'digest', 'last', 'paused', 'word', 'job', 'what', 'open')
if state[1] ~= ARGV[3] then
    return answer('other')
elseif state[4] == ARGV[7] then -- the reply was lost
    return answer(state[6] or 'done')
elseif state[3] then
    return answer('paused')
elseif state[2] ~= ARGV[4] then
    return answer('moved')
elseif tonumber(ARGV[6]) > clock + 0.02 then
    return answer('early')
end

local fields = call('HGETALL', KEYS[2])
local wrong = misfit()
if wrong then
    return wrong
end
if #fields == 0 then
    return answer('other')
end

local function finish(what, status, counted, count)
    call('HSET', KEYS[1], 'last', ARGV[5], 'word', ARGV[7], 'what', what, 'keeper', ARGV[1])
    if tonumber(ARGV[15]) > 0 then
        call('HINCRBY', KEYS[1], 'missed', ARGV[15])
    end
    if count > 0 then
        call('HINCRBY', KEYS[1], counted, count)
    end
    return answer(what, status)
end

if #ARGV < 16 then
    return finish('done', '', 'enqueued', 0)
end

-- The status of a job, or nil, and when it has ended.
local function status_of(id)
    local job = pcall_('HMGET', rq .. ':job:' .. id, 'status', 'ended_at')
    if not job.err then
        return job[1] or nil, job[2]
    end
end

local last = state[5] and status_of(state[5])
if UNFINISHED[last] and ARGV[8] == 'skip' then
    return finish('overlap', last, 'skipped', #ARGV - 15)
end
local open = {} -- jobs before this one that have not ended, the oldest first
for id in string.gmatch((state[7] or '') .. ' ' .. (state[5] or ''), '%S+') do
    local status, ended = status_of(id)
    if UNFINISHED[status] then
        open[#open + 1] = id
    elseif status == 'failed' then
        call('HINCRBY', KEYS[1], 'failures', 1)
    else -- finished, or its result has expired; RQ keeps failed jobs for a year
        call('HSET', KEYS[1], 'failures', 0)
        if status == 'finished' and ended then
            call('HSET', KEYS[1], 'success', ended)
        end
    end
end
for i = 16, #ARGV - 1 do
    open[#open + 1] = ARGV[i]
end
call('HSET', KEYS[1], 'open', table.concat(open, ' ', math.max(1, #open - MOST_OPEN + 1)))

for i = 16, #ARGV do
    enqueue(rq, ARGV[i], fields, ARGV[9], ARGV[13], ARGV[14] == '1')
end
record(ARGV[12], ARGV[10], ARGV[11])
local late = math.max(0, clock - tonumber(ARGV[6]))
call('HSET', KEYS[1], 'job', ARGV[#ARGV])
call('HSET', KEYS[1], 'at', string.format('%.3f', clock), 'late', string.format('%.3f', late))
return finish('done', '', 'enqueued', #ARGV - 15)
