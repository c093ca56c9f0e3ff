-- Claim the first job of the first queue that has one: write the claim, and move the id to the
-- queue's intermediate list, as RQ does.
--
-- KEYS  1 claims  2 suspended  3.. queues in order of priority
-- ARGV  1 owner  2 suffix of the keys of intermediate lists  3 prefix of the keys of jobs
--       4 how many ids of jobs that no longer exist to skip at most  5 suffix for a key of the wrong
--       type  6 prefix of jobs' keys for RQ's own class: a job that has only that key exists
--       7 limits of these queues (`full.lua`), or nothing  8 now, in seconds
--
-- Returns {key of the queue, id, number of skipped ids, the first of these, its queue, a key that is
-- no list, keys of queues that are at their limit and not empty}; `suspended` instead of a queue. An
-- existing claim is returned again: the last reply may have been lost.
--
-- The claim is written first: whatever Redis refuses after it, no id is in a list without an owner.

local claim = redis.call('HGET', KEYS[1], ARGV[1])
if claim then
    local id, queue = split(claim)
    return { queue, id, 0, '', '', '', {} }
end
if redis.call('EXISTS', KEYS[2]) == 1 then
    return { 'suspended', '', 0, '', '', '', {} }
end

local gone, first, where, odd, full = 0, '', '', '', {}
local limits = ARGV[7] ~= '' and read_limits(ARGV[7])

local function move(queue, aside)
    local moved = redis.pcall('LMOVE', queue, queue .. ARGV[2], 'LEFT', 'RIGHT')
    if type(moved) ~= 'table' then
        return true
    end
    local kind = redis.call('TYPE', queue .. ARGV[2]).ok
    if aside and kind ~= 'list' and kind ~= 'none' then
        odd = queue .. ARGV[2]
        redis.call('RENAME', odd, odd .. ARGV[5])
        return move(queue, false)
    end
    return false, moved
end

for i = 3, #KEYS do
    local queue = KEYS[i]
    local id = redis.pcall('LINDEX', queue, 0)
    if type(id) == 'string' and limits and is_full(limits[queue], ARGV[8]) then
        full[#full + 1] = queue
        id = nil
    end
    while type(id) == 'string' do
        if redis.call('EXISTS', ARGV[3] .. id, ARGV[6] .. id) > 0 then
            redis.call('HSET', KEYS[1], ARGV[1], id .. ' ' .. queue)
            local done, refusal = move(queue, true)
            if not done then
                redis.call('HDEL', KEYS[1], ARGV[1])
                return refusal
            end
            return { queue, id, gone, first, where, odd, full }
        end
        redis.call('LPOP', queue)
        if gone == 0 then
            first, where = id, queue
        end
        gone = gone + 1
        if gone >= tonumber(ARGV[4]) then
            return { '', '', gone, first, where, odd, full }
        end
        id = redis.call('LINDEX', queue, 0)
    end
    if type(id) == 'table' then
        if not string.find(id.err, 'WRONGTYPE', 1, true) then
            return id
        end
        odd = queue
    end
end
return { '', '', gone, first, where, odd, full }
