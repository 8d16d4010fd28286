from tests.redis_servers import own_redis, redis_cluster, redis_sentinels, shared_redis

__all__ = ["own_redis", "redis_cluster", "redis_sentinels", "shared_redis"]
