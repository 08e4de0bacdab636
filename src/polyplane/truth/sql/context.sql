-- name: set
-- Who acts, until the transaction ends and no longer: policies and triggers read it.
SELECT set_config('polyplane.actor', %(actor)s, true),
       set_config('polyplane.tenant', %(tenant)s, true),
       set_config('polyplane.user', %(user)s, true),
       set_config('polyplane.sees_all', %(sees_all)s, true),
       set_config('polyplane.request', %(request)s, true),
       set_config('polyplane.address', %(address)s, true)
