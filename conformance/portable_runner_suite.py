"""Beam's FnApiRunnerTest family through its PortableRunnerTest, at the endpoint of the plugin's settings.

Nothing of Beam's tests is changed: only where the jobs go. The class names matter, since Beam skips some tests by the
name of the class: these have names of their own, so only Beam's general skips apply.
"""
import weir_plugin
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.runners.portability import portable_runner_test


class WeirRunnerTest(portable_runner_test.PortableRunnerTest):
  @classmethod
  def _create_job_endpoint(cls):
    return weir_plugin.SETTINGS['endpoint']

  def create_options(self):
    return weir_plugin.point_at_endpoint(super().create_options())


class WeirRunnerPreOptimizedTest(WeirRunnerTest):
  """As PortableRunnerOptimizedWithoutFusion: the client has expanded SDFs and lifted combiners already."""
  def create_options(self):
    options = super().create_options()
    options.view_as(DebugOptions).add_experiment('pre_optimize=all_except_fusion')
    return options
