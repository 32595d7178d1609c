-- After data loss: sets a new epoch, once per bucket, so that all earlier tokens are dead.
-- KEYS: buckets, then their feeds, which are deleted
-- ARGV: a new epoch; the epochs in use before, comma-separated; how many previous epochs to remember; the
--       epoch that each bucket had when the loss was seen, '' for one that was gone
-- Returns how many buckets it changed; another process was faster in the others
local at, stamp = now()
local done, all = 0, #KEYS / 2
for place = 1, all do
  local bucket = read(redis.call('MGET', KEYS[place])[1])
  if (bucket and bucket.epoch or '') == ARGV[3 + place] then
    local previous, seen = {}, { [ARGV[1]] = true }
    local left = ARGV[2] .. ',' .. (bucket and bucket.epoch .. ',' .. bucket.previous or '')
    for epoch in string.gmatch(left, '[^,]+') do
      if not seen[epoch] and #previous < tonumber(ARGV[3]) then
        seen[epoch] = true
        table.insert(previous, epoch)
      end
    end
    write(KEYS[place],
      { epoch = ARGV[1], gen = stamp, at = at, count = 0, revision = '0', previous = table.concat(previous, ',') })
    redis.call('UNLINK', KEYS[all + place])
    done = done + 1
  end
end
return done
