-- Follows counts.lua.
return counts()
