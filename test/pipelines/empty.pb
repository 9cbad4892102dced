
€"&
bytes_coder

beam:coder:bytes:v1*Õ
%ref_Environment_default_environment_1«beam:env:external:v1

localhost:2*beam:coder:bytes:v1*beam:coder:string_utf8:v1*beam:coder:kv:v1*beam:coder:bool:v1*beam:coder:varint:v1*beam:coder:double:v1*beam:coder:iterable:v1*beam:coder:timer:v1*beam:coder:interval_window:v1*beam:coder:length_prefix:v1*beam:coder:global_window:v1*beam:coder:windowed_value:v1*"beam:coder:param_windowed_value:v1*#beam:coder:state_backed_iterable:v1*beam:coder:custom_window:v1*beam:coder:row:v1*beam:coder:sharded_key:v1*beam:coder:nullable:v1*#beam:protocol:progress_reporting:v0*)beam:protocol:harness_monitoring_infos:v1*beam:protocol:worker_status:v1*beam:combinefn:packed_python:v1*7beam:version:sdk_base:apache/beam_python3.11_sdk:2.77.0*1beam:transform:sdf_truncate_sized_restrictions:v1*beam:transform:to_string:v1*beam:protocol:data_sampling:v1*,beam:protocol:sdk_consuming_received_data:v1*#beam:protocol:ordered_list_state:v1*#beam:protocol:named_data_streams:v1