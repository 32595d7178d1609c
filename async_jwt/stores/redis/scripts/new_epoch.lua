-- After a loss of data: a new epoch, so that nothing made before counts any more. Once in each bucket.
-- KEYS: buckets, then their feeds, which end
-- ARGV: a new epoch; the epochs in use before, with commas; how many left epochs are remembered; the epoch
--       that each bucket had when the loss was seen, '' for one that was gone
-- Returns in how many buckets; somebody else was faster in the others
local at, stamp = now()
local done, all = 0, #KEYS / 2
for place = 1, all do
  local bucket = read(redis.call('MGET', KEYS[place])[1])
  if (bucket and bucket.epoch or '') == ARGV[3 + place] then
    local former, seen = {}, { [ARGV[1]] = true }
    local left = ARGV[2] .. ',' .. (bucket and bucket.epoch .. ',' .. bucket.former or '')
    for epoch in string.gmatch(left, '[^,]+') do
      if not seen[epoch] and #former < tonumber(ARGV[3]) then
        seen[epoch] = true
        table.insert(former, epoch)
      end
    end
    write(KEYS[place],
      { epoch = ARGV[1], gen = stamp, at = at, count = 0, mark = '0', former = table.concat(former, ',') })
    redis.call('UNLINK', KEYS[all + place])
    done = done + 1
  end
end
return done
