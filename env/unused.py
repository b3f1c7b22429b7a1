"""List what vulture takes for unused although it is not: one line each, by its reason.

Vulture reads this file together with the package, so that a name here counts as used.
"""

_ = object()

# Called or read by a library: transformers' cache, and ast.NodeVisitor.
_.get_mask_sizes
_.get_query_offset
_.get_seq_length
_.hf_quantizer
_.generic_visit
_.visit_AnnAssign
_.visit_FormattedValue

# Called or read by socketserver and http.server.
_.daemon_threads
_.request_queue_size
_.address_family
_.handle_error
_.readinto
_.server_version
_.sys_version
_.do_GET
_.do_POST
_.log_message
_.send_error
_.request_version

# Reached by name: the registries in config/registry.py, and Python itself.
_.HuggingFace
_.of_settings
_.ImageClassification
_.NASBench201
_.__getattr__
_.__dir__

# The public interface, for programs of others.
_.Immediate
_.to_pandas
_.to_ribs

# Assigned for their effect on torch, numpy, tempfile and onnxruntime.
_.inter_op_num_threads
_.intra_op_num_threads
_.log_severity_level
_.allow_tf32
_.writeable
_.tempdir

# Fields that reach the record by dataclasses.asdict: Update and Generation of types.py.
_.network_clipped
_.curiosity_delta
_.new_temperature
_.best_before
_.mean_fitness
_.network_elites
_.network_coverage
_.network_qd_score
_.prompt_elites
_.prompt_coverage

# For tests and benchmarks: a process to look at, columns that differ between runs, rules to leave
# out one by one.
_.warm_pid
_.TIMINGS
_.RULES

# Options of sbatch, which Resources of cluster/site.py passes on by the names of its fields.
_.gres
_.constraint
_.mem

# Read by its name in the settings of a record.
_.rung_margin
