"""
What a Redis server runs in one step, as Lua: all of it happens or none, and nobody sees the middle.

Keys, after the prefix: ``p:USER`` (sorted set of events by time, then arrival), ``c:USER`` (hash: version ``v`` and
counts by kind), ``young`` and ``old`` (sets of hashes of event ids), ``erased`` and ``follow`` (hashes of erased
people → version; → segment), ``state`` (hash of counters), ``journal`` (stream), ``done:TOKEN`` (answers to writes,
for a minute, so that one that is sent again after a lost connection is not done again).
"""

from __future__ import annotations

PERSON = """
local at, user = KEYS[1], ARGV[1]
return {redis.call('ZRANGE', at .. 'p:' .. user, ARGV[3], ARGV[4], 'WITHSCORES'),
        redis.call('HGETALL', at .. 'c:' .. user), redis.call('HGET', at .. 'erased', ARGV[2])}
"""
# A script and no MULTI: a server whose memory is full refuses transactions, even those that only read.

APPEND = """
local at, token, most, ids, cutoff, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local head = 6
local done = redis.call('GET', at .. 'done:' .. token)
if done then return tonumber(done) end
-- Who keeps the log says so each time: a server that began again, empty, knows of no log.
local journal = ARGV[6] == '1' or redis.call('HGET', at .. 'state', 'journal')
local version = redis.call('HINCRBY', at .. 'state', 'version', 1)
local seq = redis.call('HINCRBY', at .. 'state', 'seq', (#ARGV - head) / 6)
local new, people = 0, {}
for i = head + 1, #ARGV, 6 do
  local user, score, said, code, id, kind = ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]
  local known = false
  if code ~= '' then
    known = redis.call('SISMEMBER', at .. 'young', code) == 1 or redis.call('SISMEMBER', at .. 'old', code) == 1
    if not known then
      redis.call('SADD', at .. 'young', code)
      if redis.call('SCARD', at .. 'young') >= ids then redis.call('RENAME', at .. 'young', at .. 'old') end
    end
  end
  if not known then
    new = new + 1
    people[user] = true
    local place = struct.pack('>I8', seq - (#ARGV - head) / 6 + (i - head - 1) / 6 + 1)
    redis.call('ZADD', at .. 'p:' .. user, score, place .. said)
    redis.call('HINCRBY', at .. 'c:' .. user, kind, 1)
    if journal then redis.call('XADD', at .. 'journal', '*', 'u', user, 't', score, 'p', said, 'i', id) end
  end
end
for user, _ in pairs(people) do
  redis.call('ZREMRANGEBYRANK', at .. 'p:' .. user, 0, -most - 1)
  redis.call('HSET', at .. 'c:' .. user, 'v', version)
  if ttl ~= '' then
    redis.call('ZREMRANGEBYSCORE', at .. 'p:' .. user, '-inf', '(' .. cutoff)
    redis.call('PEXPIRE', at .. 'p:' .. user, ttl)
    redis.call('PEXPIRE', at .. 'c:' .. user, ttl)
  end
end
redis.call('SET', at .. 'done:' .. token, new, 'EX', 60)
return new
"""

ERASE = """
local at, user, hash = KEYS[1], ARGV[1], ARGV[2]
local gone = redis.call('ZCARD', at .. 'p:' .. user)
redis.call('DEL', at .. 'p:' .. user, at .. 'c:' .. user)
redis.call('HSET', at .. 'erased', hash, redis.call('HINCRBY', at .. 'state', 'version', 1))
if ARGV[3] == '1' or redis.call('HGET', at .. 'state', 'journal') then
  redis.call('HSET', at .. 'follow', hash, redis.call('HGET', at .. 'state', 'segment') or 0)
end
local from = '-'
while true do
  local entries = redis.call('XRANGE', at .. 'journal', from, '+', 'COUNT', 1000)
  for _, entry in ipairs(entries) do
    if entry[2][2] == user then redis.call('XDEL', at .. 'journal', entry[1]) end
    from = '(' .. entry[1]
  end
  if #entries < 1000 then return gone end
end
"""

SWEEP = """
local gone = redis.call('ZREMRANGEBYSCORE', KEYS[1] .. 'p:' .. ARGV[1], '-inf', '(' .. ARGV[2])
if gone > 0 then
  redis.call('HSET', KEYS[1] .. 'c:' .. ARGV[1], 'v', redis.call('HINCRBY', KEYS[1] .. 'state', 'version', 1))
  if redis.call('EXISTS', KEYS[1] .. 'p:' .. ARGV[1]) == 0 then redis.call('DEL', KEYS[1] .. 'c:' .. ARGV[1]) end
end
return gone
"""

KEEP = """
local state, known = KEYS[1] .. 'state', redis.call('HMGET', KEYS[1] .. 'state', 'journal', 'segment')
if not known[1] then redis.call('HSET', state, 'journal', 1) end
if tonumber(known[2] or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', state, 'segment', ARGV[1])
  for _, hash in ipairs(redis.call('HKEYS', KEYS[1] .. 'follow')) do
    redis.call('HSET', KEYS[1] .. 'follow', hash, ARGV[1])
  end
end
return 0
"""

CLAIM = """
local state, journal = KEYS[1] .. 'state', KEYS[1] .. 'journal'
if not redis.call('HGET', state, 'claimed') then
  local entries = redis.call('XRANGE', journal, '-', '+', 'COUNT', ARGV[2])
  if #entries == 0 then return false end
  local number = redis.call('HINCRBY', state, 'segment', 1)
  local name = string.format('events-%09d-%s.parquet', number, ARGV[1])
  redis.call('HSET', state, 'claimed', name, 'until', entries[#entries][1])
end
local until_id = redis.call('HGET', state, 'until')
return {redis.call('HGET', state, 'claimed'), redis.call('HGET', state, 'segment'),
        redis.call('XRANGE', journal, '-', until_id)}
"""

SETTLE = """
local state = KEYS[1] .. 'state'
if redis.call('HGET', state, 'claimed') == ARGV[1] then
  local ms, seq = string.match(redis.call('HGET', state, 'until'), '(%d+)-(%d+)')
  redis.call('XTRIM', KEYS[1] .. 'journal', 'MINID', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
  redis.call('HDEL', state, 'claimed', 'until')
end
return 0
"""

FOLLOWED = """
for i = 1, #ARGV, 2 do
  local key, hash = KEYS[1] .. 'follow', ARGV[i]
  if redis.call('HGET', key, hash) == ARGV[i+1] then redis.call('HDEL', key, hash) end
end
return 0
"""
