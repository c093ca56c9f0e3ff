-- Say that an arbiter has a periodic job, with this definition. The newest definition is in force: the
-- one whose generation was loaded last, as long as an arbiter that has it lives.
--
-- ARGV  1 the arbiter  2 prefix of RQ's keys  3 seconds since the generation was loaded
--       4 seconds after which an arbiter that is not heard of is dead  5 seconds that its list is kept
--       6 the job  7 digest of the definition  8 the definition, as JSON
--       9 `interval` or `cron`  10 `1` if it is enabled  11 the arbiter's host
--       12 when this arbiter was heard of before the process that asks has begun; 0: never
--       13.. fields of the record of a job of it
--
-- Returns {what, clock, first, last, paused, keeper, by, definition}. what: `ours`; `other`, if another
-- definition is in force, by another arbiter; `late`, if this arbiter has loaded a newer generation.
-- first: the first tick of an interval. last: the last tick that is done with. paused: JSON, or empty. by:
-- the host of the arbiter that has brought the definition in force.

local call = redis.call
local arbiter, rq, job, digest = ARGV[1], ARGV[2], ARGV[6], ARGV[7]
local cron = rq .. ':resqued:cron:'
local own, state, template = cron .. 'arbiter:' .. arbiter, cron .. 'job:' .. job, cron .. 'template:' .. job
local time = call('TIME')
local clock = tonumber(time[1]) + tonumber(time[2]) / 1e6
local now = string.format('%.3f', clock)
local loaded = clock - tonumber(ARGV[3])
local NEAR = 0.5 -- the age of a generation is measured again each time

local function answer(what)
    local told = call('HMGET', state, 'first', 'last', 'paused', 'keeper', 'by', 'definition')
    for i = 1, 6 do
        told[i] = told[i] or ''
    end
    return { what, string.format('%.6f', clock), unpack(told) }
end

-- Whether a living arbiter has the definition with this digest.
local function lives(it)
    for _, other in ipairs(call('ZRANGEBYSCORE', cron .. 'seen', clock - tonumber(ARGV[4]), '+inf')) do
        if other ~= arbiter and call('HGET', cron .. 'arbiter:' .. other, job) == it then
            return true
        end
    end
    return false
end

-- When an arbiter with this definition was last heard of. had: the digest that this one has had.
local function heard_of(it, had)
    local latest = had == it and tonumber(ARGV[12]) or 0
    for _, set in ipairs({ 'seen', 'left' }) do
        local found = call('ZRANGE', cron .. set, 0, -1, 'WITHSCORES')
        for i = 1, #found, 2 do
            if found[i] ~= arbiter and call('HGET', cron .. 'arbiter:' .. found[i], job) == it then
                latest = math.max(latest, tonumber(found[i + 1]))
            end
        end
    end
    return latest
end

-- The seconds up to which a tick of this schedule may have been put off under the one before; nil: it
-- is the same schedule.
local function put_off(before, after)
    local read, old = pcall(cjson.decode, before or '')
    local known, new = pcall(cjson.decode, after)
    if not read or not known or type(old) ~= 'table' then
        return 0
    elseif old.interval ~= new.interval or old.cron ~= new.cron
            or new.cron ~= cjson.null and old.timezone ~= new.timezone then
        return math.min(tonumber(old.jitter) or 0, new.jitter)
    end
end

local newest = tonumber(call('HGET', own, '') or '')
if newest and loaded < newest - NEAR then
    return answer('late')
end
local had = call('HGET', own, job)
call('HSET', own, '', string.format('%.3f', loaded), job, digest)
call('EXPIRE', own, ARGV[5])
call('ZADD', cron .. 'jobs', now, job)

local before = call('HMGET', state, 'digest', 'loaded', 'enabled', 'definition', 'first', 'last', 'until')
if before[1] and before[1] ~= digest and loaded <= tonumber(before[2] or 0) and lives(before[1]) then
    return answer('other')
end
if before[1] ~= digest or call('EXISTS', template) == 0 then
    call('DEL', template)
    for i = 13, #ARGV, 2 do
        call('HSET', template, ARGV[i], ARGV[i + 1])
    end
    call('HSET', state, 'digest', digest, 'definition', ARGV[8], 'kind', ARGV[9])
    call('HSET', state, 'enabled', ARGV[10], 'by', ARGV[11])
    local last = tonumber(before[6] or '') or 0
    local slack = before[1] and put_off(before[4], ARGV[8])
    if not before[1] or before[3] == '0' and ARGV[10] == '1' then -- it counts from now
        call('HSET', state, 'last', now)
    elseif slack then -- another schedule: it has missed what came while no arbiter was there
        local since = math.max(heard_of(before[1], had), tonumber(before[7] or '') or 0) - slack - NEAR
        if since > last then
            call('HSET', state, 'last', string.format('%.3f', since))
        end
    end
    if ARGV[9] == 'interval' and not before[5] then
        local first = math.min(last, clock) -- from the last tick on
        if not before[1] then -- at once, and from then on
            first = clock - 0.002 -- so that it is due now
            call('HSET', state, 'last', string.format('%.3f', first - 0.001))
        end
        call('HSET', state, 'first', string.format('%.3f', first))
    end
    call('INCR', cron .. 'changes')
end
if before[7] then
    call('HDEL', state, 'until')
end
if not before[2] or before[1] ~= digest or loaded > tonumber(before[2]) + NEAR then
    call('HSET', state, 'loaded', string.format('%.3f', loaded))
end
return answer('ours')
