"""Beam's FnApiRunnerTest family through its PortableRunnerTest, at the endpoint of the plugin's settings.

Nothing of Beam's tests is changed: only where the jobs go, and that tests which Beam skips for what its own runners lack
(drain, TestStream) or where its own are flaky are run as they are. The class names matter, since Beam skips some tests by the name
of the class: these have names of their own, so only Beam's general skips apply.
"""
import weir_plugin
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.runners.portability import portable_runner_test
from apache_beam.runners.portability.fn_api_runner import fn_runner_test


class WeirRunnerTest(portable_runner_test.PortableRunnerTest):
  @classmethod
  def _create_job_endpoint(cls):
    return weir_plugin.SETTINGS['endpoint']

  def create_options(self):
    return weir_plugin.point_at_endpoint(super().create_options())

  def create_pipeline(self, is_drain=False):
    options = self.create_options()
    if is_drain:
      options.view_as(DebugOptions).add_experiment('drain_at_start')
    return Pipeline(self.get_runner(), options)

  def test_sdf_default_truncate_when_bounded(self):
    fn_runner_test.FnApiRunnerTest.test_sdf_default_truncate_when_bounded(self)

  def test_sdf_default_truncate_when_unbounded(self):
    fn_runner_test.FnApiRunnerTest.test_sdf_default_truncate_when_unbounded(self)

  def test_sdf_with_truncate(self):
    fn_runner_test.FnApiRunnerTest.test_sdf_with_truncate(self)

  def test_draining_sdf_with_sdf_initiated_checkpointing(self):
    fn_runner_test.FnApiRunnerTest.test_draining_sdf_with_sdf_initiated_checkpointing(self)

  # Under the decorators that skip them.
  def test_teststream_pardo_timers(self):
    fn_runner_test.FnApiRunnerTest.test_teststream_pardo_timers.__wrapped__(self)

  def test_batch_pardo_trigger_flush(self):
    fn_runner_test.FnApiRunnerTest.test_batch_pardo_trigger_flush.__wrapped__(self)

  def test_pardo_large_input(self):
    fn_runner_test.FnApiRunnerTest.test_pardo_large_input.__wrapped__(self)

  def test_pardo_side_input_sparse_dependencies(self):
    fn_runner_test.FnApiRunnerTest.test_pardo_side_input_sparse_dependencies.__wrapped__(self)

  def test_large_elements(self):
    fn_runner_test.FnApiRunnerTest.test_large_elements.__wrapped__(self)


class WeirRunnerPreOptimizedTest(WeirRunnerTest):
  """As PortableRunnerOptimizedWithoutFusion: the client has expanded SDFs and lifted combiners already."""
  def create_options(self):
    options = super().create_options()
    options.view_as(DebugOptions).add_experiment('pre_optimize=all_except_fusion')
    return options

  # Clients do not expand SDFs with truncation.
  test_sdf_default_truncate_when_unbounded = None
  test_sdf_with_truncate = None
