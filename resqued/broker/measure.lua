-- Measure all queues. Nothing is written.
--
-- KEYS  1 the set of all queues  2 what exists while RQ is suspended
-- ARGV  1 the prefix of RQ's keys  2 how many queues are named at most  3 `1`: measure also what
--       changes slowly  4.. queues that are measured although RQ may not know them yet, and that are
--       named first
--
-- Returns JSON: [suspended, [queue, ...], other queues, jobs that wait in those]. A queue is [name,
-- waiting, started, when the first that waits was enqueued], and with what changes slowly also
-- [.., scheduled, failed, workers, whether a scheduler has locked it]. What cannot be read, since its
-- key is of another type or the command is forbidden, is false. A queue that cannot be counted is
-- left out.

local prefix, most, slowly = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local LOOKED_AT = 50 -- workers of a queue, at most, until one is found that lives

local function read(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then
        return false
    end
    return answer
end
local function count(command, key)
    return read(command, prefix .. key)
end
-- RQ's sets keep workers that have died until somebody tidies up.
local function workers(name, waiting)
    local key = prefix .. 'workers:' .. name
    local registered = read('SCARD', key)
    if not registered or registered == 0 or waiting == 0 then
        return registered
    end
    for _, worker in ipairs(read('SRANDMEMBER', key, LOOKED_AT) or {}) do
        if read('EXISTS', worker) ~= 0 then
            return registered
        end
    end
    return 0
end

local queues, known = {}, {}
local function add(name, first)
    local waiting = not known[name] and count('LLEN', 'queue:' .. name)
    known[name] = true
    if waiting then
        queues[#queues + 1] = { name = name, waiting = waiting, first = first }
    end
end
for i = 4, #ARGV do
    add(ARGV[i], true)
end
local start = #prefix + #'queue:'
for _, key in ipairs(read('SMEMBERS', KEYS[1]) or {}) do
    if string.sub(key, 1, start) == prefix .. 'queue:' and #key > start then
        add(string.sub(key, start + 1), false)
    end
end
if #queues > most then
    table.sort(queues, function(a, b)
        if a.first ~= b.first then
            return a.first
        end
        if a.waiting ~= b.waiting then
            return a.waiting > b.waiting
        end
        return a.name < b.name
    end)
end

local measured, others, others_waiting = {}, 0, 0
for number, queue in ipairs(queues) do
    local name, waiting = queue.name, queue.waiting
    if number > most then
        others, others_waiting = others + 1, others_waiting + waiting
    else
        local id = waiting > 0 and read('LINDEX', prefix .. 'queue:' .. name, 0)
        local at = id and read('HGET', prefix .. 'job:' .. id, 'enqueued_at')
        local row = { name, waiting, count('ZCARD', 'wip:' .. name), at or false }
        if slowly then
            row[5], row[6] = count('ZCARD', 'scheduled:' .. name), count('ZCARD', 'failed:' .. name)
            row[7] = workers(name, waiting)
            row[8] = row[5] and row[5] > 0 and count('EXISTS', 'scheduler-lock:' .. name) or false
        end
        measured[number] = row
    end
end
local suspended = read('EXISTS', KEYS[2]) == 1
if #measured == 0 then
    return cjson.encode({ suspended, false, 0, 0 })
end
return cjson.encode({ suspended, measured, others, others_waiting })
