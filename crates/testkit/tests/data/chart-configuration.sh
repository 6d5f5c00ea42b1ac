#!/bin/sh
# Exposes the Admin API on the proxy as the gateway chart does, call by call and in its order, and
# prints the status of each call. Like the chart it goes on whatever is answered.
#
# ADMIN_URL, ADMIN_USER, ADMIN_PASSWORD: the Admin API. GATEWAY_HOST: host of the route.
# ISSUER: issuer of the tokens that may pass.
set -u

credentials=$(printf '%s' "$ADMIN_USER:$ADMIN_PASSWORD" | base64 | tr -d '\n')

call() {
    method=$1
    path=$2
    body=$3
    curl --silent --show-error --output /dev/null --write-out '%{http_code}\n' \
        --user "$ADMIN_USER:$ADMIN_PASSWORD" --request "$method" \
        --header 'Content-Type: application/json' --data "$body" "$ADMIN_URL$path"
}

call PUT /services/admin-api '{"name":"admin-api","host":"localhost","protocol":"http","port":8001}'

call PUT /services/admin-api/plugins/e9fb4272-0aff-4208-9efa-6bfec5d9df53 "$(cat <<END
{"name":"request-transformer","config":{"replace":{"headers":["Authorization:Basic $credentials"]}}}
END
)"

call PUT /services/admin-api/routes/admin-api "$(cat <<END
{"name":"admin-api","protocols":["http","https"],"hosts":["$GATEWAY_HOST"],"paths":["/admin-api"]}
END
)"

call PUT /consumers/rover '{"username":"rover","custom_id":"rover"}'

call PUT /routes/admin-api/plugins/bc823d55-83b5-4184-b03f-ce63cd3b75c7 \
    '{"name":"acl","config":{"allow":["rover"],"hide_groups_header":true}}'

call POST /consumers/rover/acls '{"group":"rover"}'

call PUT /routes/admin-api/plugins/b864d58b-7183-4889-8b32-0b92d6c4d513 "$(cat <<END
{"name":"jwt-keycloak","config":{"allowed_iss":["$ISSUER"],"consumer_match":true,"consumer_match_claim_custom_id":true}}
END
)"
