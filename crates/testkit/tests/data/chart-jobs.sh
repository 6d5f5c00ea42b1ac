#!/bin/sh
# The calls of the gateway chart's set-up jobs. Prints "<job> <status of GET /> <status>..." for each job
# named on the command line.
#
# ADMIN_URL, ADMIN_USER, ADMIN_PASSWORD: the Admin API. COLLECTOR: URL of a trace collector.
set -u

prometheus=3d232d3c-dc2b-4705-aa8d-4e07c4e0ff4c
zipkin=e8ff1211-816f-4d93-9011-a4b194586073
opentelemetry=7b1d3f9a-2c84-4d6e-9f10-5a3b8c2e7d41
request_size_limiting=1e199eee-f592-4afa-8371-6b61dcbd1904

call() {
    method=$1
    path=$2
    shift 2
    curl --silent --show-error --output /dev/null --write-out ' %{http_code}' \
        --user "$ADMIN_USER:$ADMIN_PASSWORD" --request "$method" "$@" "$ADMIN_URL$path"
}

put() {
    call PUT "/plugins/$1" --header 'Content-Type: application/json' --data "$2"
}

for job in "$@"; do
    printf '%s' "$job"
    call GET /
    case $job in
        prometheus)
            put $prometheus '{"name":"prometheus","tags":["tardis","prometheus"]}'
            ;;
        zipkin)
            put $zipkin "$(cat <<END
{"name":"zipkin","tags":["tardis","zipkin","eni-zipkin"],"config":{"http_endpoint":"$COLLECTOR/api/v2/spans",
"sample_ratio":1,"include_credential":true,"default_service_name":"gateway","local_component_name":"kong",
"environment":"dev","zone":"zone1","force_sample":false,"header_type":"b3"}}
END
)"
            call DELETE /plugins/$opentelemetry
            ;;
        opentelemetry)
            put $opentelemetry "$(cat <<END
{"name":"opentelemetry","tags":["tardis","otel","eni-opentelemetry"],"config":{"traces_endpoint":"$COLLECTOR/v1/traces",
"sampling_rate":1,"resource_attributes":{"service.name":"gateway"},"local_service_name":"gateway",
"environment":"dev","zone":"zone1","header_type":"b3"}}
END
)"
            call DELETE /plugins/$zipkin
            ;;
        request-size-limiting)
            put $request_size_limiting "$(cat <<END
{"name":"request-size-limiting","tags":["tardis","request-size-limiting"],
"config":{"allowed_payload_size":10,"size_unit":"megabytes","require_content_length":false}}
END
)"
            ;;
        migration-prometheus) call DELETE /plugins/$prometheus ;;
        migration-zipkin) call DELETE /plugins/$zipkin ;;
        migration-opentelemetry) call DELETE /plugins/$opentelemetry ;;
        *)
            echo " unknown job" >&2
            exit 2
            ;;
    esac
    printf '\n'
done
