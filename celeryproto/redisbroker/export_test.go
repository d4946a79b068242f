package redisbroker

// MatchGlob is for a comparison with Redis.
var MatchGlob = matchGlob
