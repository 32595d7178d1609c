-- The head of other scripts: whether a token still counts, 1, or 0 once it, its session or its user was revoked.
-- KEYS: the bucket's generation, the user's generation, the revoked jti, the revoked sid
-- ARGV: epoch, everybody's generation, the user's generation ('' thrice without a stamp),
--       issued at (seconds), jti, sid
local function counts()
  if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then
    return 0
  end

  local all = redis.call('HMGET', KEYS[1], 'epoch', 'gen', 'at')
  local user = redis.call('HMGET', KEYS[2], 'gen', 'at', 'keep')
  local all_gen, user_gen = tonumber(all[2] or 0), tonumber(user[1] or 0)
  local kept = user[3] and user[3] ~= '' and (user[3] == ARGV[5] or user[3] == ARGV[6])

  if ARGV[1] == '' then
    local issued = tonumber(ARGV[4])
    if all[3] and issued <= tonumber(all[3]) then return 0 end
    if user[2] and not kept and issued <= tonumber(user[2]) then return 0 end
    return 1
  end

  -- Another epoch, or a generation that this server never gave: it lost what it knew.
  if ARGV[1] ~= all[1] then return 0 end
  local made_all, made_user = tonumber(ARGV[2]), tonumber(ARGV[3])
  if made_all ~= all_gen then return 0 end
  if made_user > user_gen then return 0 end
  if made_user < user_gen and not kept then return 0 end
  return 1
end

