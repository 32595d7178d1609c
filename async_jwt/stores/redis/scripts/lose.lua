-- After a loss of data: a new epoch everywhere, so that nothing made before counts any more. Once.
-- KEYS: the marker of evictions, then all buckets
-- ARGV: the place among them of the bucket that shows the loss; the epoch found there ('' if it is gone);
--       a new epoch; '<run id> <evicted keys>' if keys were evicted, or ''; the epochs in use before, with
--       commas; how many left epochs are remembered
local values = redis.call('MGET', unpack(KEYS))

local former, seen = {}, { [ARGV[3]] = true }
local function remember(epoch)
  if not seen[epoch] and #former < tonumber(ARGV[6]) then
    seen[epoch] = true
    table.insert(former, epoch)
  end
end

-- Has somebody else dealt with it? Not if the store was only begun anew.
if ARGV[4] ~= '' then
  if values[1] == ARGV[4] then return 0 end
  redis.call('SET', KEYS[1], ARGV[4])
else
  local here = read(values[1 + tonumber(ARGV[1])])
  if here and here.epoch ~= ARGV[2] then
    local left, known = ',' .. here.former .. ',', true
    for epoch in string.gmatch(ARGV[5], '[^,]+') do
      if not string.find(left, ',' .. epoch .. ',', 1, true) then known = false end
    end
    if known then return 0 end
  end
end

for epoch in string.gmatch(ARGV[5], '[^,]+') do remember(epoch) end
for place = 2, #KEYS do
  local bucket = read(values[place])
  if bucket then remember(bucket.epoch) end
end
for place = 2, #KEYS do
  local bucket = read(values[place])
  if bucket then
    for epoch in string.gmatch(bucket.former, '[^,]+') do remember(epoch) end
  end
end

local at, stamp = now()
for place = 2, #KEYS do
  write(KEYS[place],
    { epoch = ARGV[3], gen = stamp, at = at, count = 0, mark = '0', former = table.concat(former, ',') })
end
return 1
