"""The scripts that nodes run in Redis, so that several commands take effect at once."""

REPORT = """
redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
local server = redis.call('GET', KEYS[3])
if not server or (ARGV[4] ~= '' and server ~= ARGV[4]) then
  redis.call('SET', KEYS[3], ARGV[4])
  redis.call('SET', KEYS[4], '1', 'PX', ARGV[3])
end
local answers = {redis.call('GET', KEYS[2])}
for number = 4, #KEYS do answers[number - 2] = redis.call('GET', KEYS[number]) end
return answers
"""
"""Writes a node's record; returns its mark, whether Redis may lack claims, and the records of other
nodes.  Redis may lack claims for `expiry` after the first report to this server.  The key that
names the server shows which report is the first: it is lost with all other data, and a replica that
becomes the primary has a copy that names the old server."""

CONSULT = """
if redis.call('GET', KEYS[1]) ~= ARGV[4] then return {false} end
local answers = {}
for number = 2, #KEYS do
  local key, token = KEYS[number], ARGV[4 + number]
  local owner, last = string.match(redis.call('GET', key) or '', '^([^/]+)/?(%d*)')
  if token ~= '' and (owner == ARGV[1] or (not owner and ARGV[5] == '1')) then
    if (tonumber(last) or 0) > tonumber(token) then token = last end
    redis.call('SET', key, ARGV[1] .. '/' .. token, 'PX', ARGV[2])
    owner = ARGV[1]
  end
  answers[number - 1] = owner and {owner, redis.call('GET', ARGV[3] .. owner)} or {}
end
return answers
"""
"""Looks up the owners of sessions and their records, and claims those with a token that have none,
unless that is forbidden.  A claim that the node has already, perhaps without knowing, gets a full
lease, and the new token unless that is older: then this command is late.  It answers only if Redis
has the mark that the asking node knows: otherwise Redis has lost its data since the answer to the
node's last report."""

GET = """
local answers = {}
for number, key in ipairs(KEYS) do answers[number] = redis.call('GET', key) end
return answers
"""
"""Returns the values of several keys; the command MGET would need a permission of its own."""

REFRESH = """
local foreign = {}
for number, key in ipairs(KEYS) do
  local owner, last = string.match(redis.call('GET', key) or '', '^([^/]+)/?(%d*)')
  local token = ARGV[2 + number]
  if not owner or (owner == ARGV[1] and (tonumber(last) or 0) < tonumber(token)) then
    redis.call('SET', key, ARGV[1] .. '/' .. token, 'PX', ARGV[2])
  elseif owner == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2])
  else foreign[#foreign + 1] = number - 1 end
end
return foreign
"""
"""Refreshes claims; returns the positions of those that other nodes own.  Redis may have the token
of an earlier claim, as after a failover."""

REMOVE = """
for number, key in ipairs(KEYS) do
  local value = ARGV[1] .. '/' .. ARGV[1 + number]
  if redis.call('GET', key) == value then redis.call('DEL', key) end
end
"""
