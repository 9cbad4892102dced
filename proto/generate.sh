#!/usr/bin/env bash
# Regenerates proto/gen from proto/beam and proto/weir. grpcio-tools brings a protoc that installs from PyPI;
# its version is pinned so that regenerating leaves no diff.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${WEIR_PROTOC_VENV:-.venv-protoc}
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/python" -c 'import grpc_tools' 2>/dev/null || "$VENV/bin/pip" install -q grpcio-tools==1.85.1
export PATH="$PWD/node_modules/.bin:$PATH"
rm -rf proto/gen && mkdir -p proto/gen
OPTS=forceLong=bigint,oneof=unions-value,esModuleInterop=true,importSuffix=.ts,enumsAsLiterals=true,outputServices=generic-definitions,useOptionals=none,unrecognizedEnum=false,outputJsonMethods=false,outputPartialMethods=true,annotateFilesWithVersion=false,useDate=false,removeEnumPrefix=false,outputTypeRegistry=false
(cd proto/beam && find * -name '*.proto' | sort) > proto/gen/.list
xargs -a proto/gen/.list "$VENV/bin/python" -m grpc_tools.protoc -I proto/beam \
  --plugin=protoc-gen-ts_proto=node_modules/.bin/protoc-gen-ts_proto --ts_proto_out=proto/gen --ts_proto_opt="$OPTS"
(cd proto/weir && find . -mindepth 1 -printf '%P\n' -name '*.proto' | sort) > proto/gen/.list
if [ -s proto/gen/.list ]; then
  xargs -a proto/gen/.list "$VENV/bin/python" -m grpc_tools.protoc -I proto/weir -I proto/beam \
    --plugin=protoc-gen-ts_proto=node_modules/.bin/protoc-gen-ts_proto --ts_proto_out=proto/gen --ts_proto_opt="$OPTS"
fi
rm -f proto/gen/.list
# One short import path per proto file: proto/gen/<file>.ts.
for f in $(find proto/gen/org -name '*.ts' | sort); do
  echo "export * from \"./${f#proto/gen/}\";" > "proto/gen/$(basename "$f")"
done
