-- Measure all queues. Nothing is written.
--
-- KEYS  1 the set of all queues  2 what exists while RQ is suspended
-- ARGV  1 the prefix of RQ's keys  2 how many queues are named at most  3 `1`: measure also what
--       changes slowly  4 Unix seconds now  5.. queues that are measured although RQ may not know them
--       yet, and that are named first
--
-- Returns JSON: [suspended, [queue, ...], other queues, jobs that wait in those]. A queue is [name,
-- waiting, when the first that waits was enqueued, started], and with what changes slowly also
-- [.., scheduled, failed, workers, whether a scheduler has locked it]. What cannot be read, since its
-- key is of another type or the command is forbidden, is false. A queue that cannot be counted is
-- left out.

local prefix, most, slowly, now = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local queue_of, wip, jobs = prefix .. 'queue:', prefix .. 'wip:', prefix .. 'job:'
local LOOKED_AT = 50 -- workers of a queue, at most, until one is found that lives
local pcall = redis.pcall

local function number(answer)
    return type(answer) == 'number' and answer
end
local function list(answer)
    return answer.err and {} or answer
end
-- RQ's sets keep workers that have died until somebody tidies up.
local function workers(key, waiting)
    local registered = number(pcall('SCARD', key))
    if not registered or registered == 0 or waiting == 0 then
        return registered
    end
    for looked_at = 1, LOOKED_AT, LOOKED_AT - 1 do -- first one, then many
        for _, worker in ipairs(list(pcall('SRANDMEMBER', key, looked_at))) do
            if pcall('EXISTS', worker) ~= 0 then
                return registered
            end
        end
    end
    return 0
end

local names, first, waits = {}, {}, {}
local function add(name, key)
    local waiting = not waits[name] and pcall('LLEN', key)
    if type(waiting) == 'number' then
        names[#names + 1], waits[name] = name, waiting
    end
end
for i = 5, #ARGV do
    add(ARGV[i], queue_of .. ARGV[i])
    first[ARGV[i]] = true
end
local start = #queue_of
for _, key in ipairs(list(pcall('SMEMBERS', KEYS[1]))) do
    if #key > start and string.sub(key, 1, start) == queue_of then
        add(string.sub(key, start + 1), key)
    end
end
local others, others_waiting = 0, 0
if #names > most then
    table.sort(names, function(a, b)
        if first[a] ~= first[b] then
            return first[a] or false
        end
        if waits[a] ~= waits[b] then
            return waits[a] > waits[b]
        end
        return a < b
    end)
    for i = #names, most + 1, -1 do
        others, others_waiting = others + 1, others_waiting + waits[names[i]]
        names[i] = nil
    end
end

local measured = {}
for i = 1, #names do
    local name = names[i]
    local waiting, at = waits[name], false
    if waiting > 0 then
        local id = pcall('LINDEX', queue_of .. name, 0)
        at = type(id) == 'string' and pcall('HGET', jobs .. id, 'enqueued_at')
        at = type(at) == 'string' and at
    end
    -- An entry that has expired is of a worker that is gone; limits do not count it either.
    local row = { name, waiting, at, number(pcall('ZCOUNT', wip .. name, '(' .. now, '+inf')) }
    if slowly then
        local scheduled = number(pcall('ZCARD', prefix .. 'scheduled:' .. name))
        row[5], row[6] = scheduled, number(pcall('ZCARD', prefix .. 'failed:' .. name))
        row[7] = workers(prefix .. 'workers:' .. name, waiting)
        row[8] = scheduled and scheduled > 0
            and pcall('EXISTS', prefix .. 'scheduler-lock:' .. name) == 1
    end
    measured[i] = row
end
local suspended = pcall('EXISTS', KEYS[2]) == 1
return cjson.encode({ suspended, #measured > 0 and measured, others, others_waiting })
