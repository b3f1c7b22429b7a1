"""List the words that a network may use: the gate's allow-lists, and nothing else.

What is not here is refused. A name belongs here if honest networks use it and it leads from
the tensors and modules of a network to nothing but tensors and modules. So there is no way to
files, processes, other modules of Python, storage and pointers, hooks, compilation, global
switches of torch, or the random state; no ``getattr`` and its like; and no name that begins
with two underscores.
"""

from __future__ import annotations

import re


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set; ``Conv?d`` stands for ``Conv1d Conv2d Conv3d``."""
    return frozenset(word.replace("?", digit) for word in text.split() for digit in "123")


def _paths(prefix: str, names: frozenset[str]) -> frozenset[str]:
    return frozenset(f"{prefix}.{name}" for name in names)


NO_NETWORK = (
    "no class at the top level derives from nn.Module, has a forward "
    "and can be constructed without arguments"
)

# --- Python -----------------------------------------------------------------------------------

BUILTINS = words("""
    abs all any bool callable dict divmod enumerate filter float frozenset hasattr int isinstance
    iter len list map max min next object print property range reversed round set slice sorted
    staticmethod str sum super tuple zip
    ArithmeticError AssertionError Exception IndexError KeyError NotImplementedError
    RuntimeError StopIteration TypeError ValueError ZeroDivisionError NotImplemented
""")
"""``print`` is allowed, and says nothing while a candidate runs."""

CALL_ONLY = words("hasattr iter print super")
"""Builtins whose calls are looked at; they may not be passed around."""

MODULES = words("""
    torch torch.nn torch.nn.functional torch.nn.init torch.nn.parameter torch.nn.utils
    torch.nn.utils.parametrizations math collections copy functools typing __future__
""")
"""Modules that an import may execute."""

UNUSED_MODULES = words("""
    numpy torch.optim torch.utils.data torchvision torchvision.datasets torchvision.models
    torchvision.transforms
""")
"""Modules that may be imported as long as nothing of them is used; never executed."""

UNUSED_NAMES = frozenset(
    {"torch.optim", "torchvision.datasets", "torchvision.models", "torchvision.transforms"}
    | {"torch.utils.data.DataLoader", "torch.utils.data.Dataset"}
)
"""The same behind ``from torch import ...``."""

_MATH = words("""
    acos asin atan atan2 ceil copysign cos cosh degrees e erf erfc exp expm1 fabs floor fmod frexp
    fsum gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp log log10 log1p log2 modf nan
    pi pow prod radians sin sinh sqrt tan tanh tau trunc
""")

_TYPING = words("""
    Any Callable ClassVar Dict Final Generator Iterable Iterator List Literal Mapping NoReturn
    Optional Sequence Set Tuple Type Union
""")

# --- torch ------------------------------------------------------------------------------------

_FUNCTIONS = words("""
    abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr adjoint all allclose amax
    amin aminmax angle any argmax argmin argsort argwhere asin asinh atan atan2 atanh baddbmm
    bernoulli bincount bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_to bucketize
    ceil chunk clamp clamp_max clamp_min clip clone conj copysign corrcoef cos cosh count_nonzero
    cov cross cummax cummin cumprod cumsum deg2rad detach diag diag_embed diagflat diagonal diff
    digamma dist div divide dot dsplit eq equal erf erfc erfinv exp exp2 expm1 fix flatten flip
    fliplr flipud float_power floor floor_divide fmax fmin fmod frac gather ge ger greater
    greater_equal gt heaviside hsplit hypot imag index_add index_copy index_fill index_select
    inner inverse is_complex is_floating_point is_nonzero isclose isfinite isinf isnan kron
    kthvalue le lerp less less_equal lgamma log log10 log1p log2 log_softmax logaddexp
    logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor logit logsumexp lt
    masked_fill masked_scatter masked_select matmul max maximum mean median min minimum mm mode
    moveaxis movedim mul multinomial multiply mv nan_to_num nanmean nanmedian nansum narrow ne
    neg negative nonzero norm not_equal numel outer permute pow prod quantile rad2deg ravel real
    reciprocal relu remainder renorm repeat_interleave reshape roll rot90 round rsqrt scatter
    scatter_add scatter_reduce searchsorted select sgn sigmoid sign signbit sin sinc sinh softmax
    sort split sqrt square squeeze std sub subtract sum swapaxes swapdims t take take_along_dim
    tan tanh tensor_split tile topk trace transpose tril triu true_divide trunc unbind unflatten
    unique unique_consecutive unsqueeze var vdot view_as_complex view_as_real vsplit where xlogy
""")
"""Both functions of torch and tensor methods."""

_SHARED = words("""
    adaptive_avg_pool1d adaptive_max_pool1d alpha_dropout avg_pool1d batch_norm bilinear celu
    channel_shuffle conv?d conv_transpose?d cosine_similarity dropout embedding
    feature_alpha_dropout group_norm hardshrink instance_norm layer_norm max_pool?d
    pairwise_distance pixel_shuffle pixel_unshuffle prelu relu_ rms_norm rrelu selu threshold
""")
"""Functions of torch that torch.nn.functional has, too."""

_TORCH_ONLY = words("""
    arange as_tensor atleast_?d block_diag broadcast_tensors cartesian_prod cat cdist chain_matmul
    column_stack combinations complex concat concatenate constant_pad_nd dstack einsum empty
    empty_like enable_grad eye feature_dropout full full_like gru_cell hann_window hamming_window
    hstack is_tensor linspace logspace lstm_cell meshgrid no_grad normal ones ones_like polar rand
    rand_like randint randint_like randn randn_like randperm rnn_relu_cell rnn_tanh_cell stack
    std_mean tensor tensordot tril_indices triu_indices vander var_mean vstack zeros zeros_like Size
    Tensor FloatTensor LongTensor BoolTensor _assert device dtype finfo iinfo bfloat16 bool
    complex64 double float float16 float32 float64 half int int16 int32 int64 int8 long short uint8
    channels_last contiguous_format preserve_format inf nan pi e newaxis cuda.is_available
    backends.mps.is_available fft.fft fft.fft2 fft.fftn fft.fftfreq fft.fftshift fft.ifft fft.ifft2
    fft.ifftn fft.ifftshift fft.irfft fft.irfft2 fft.irfftn fft.rfft fft.rfft2 fft.rfftn
    fft.rfftfreq linalg.norm linalg.vector_norm linalg.matrix_norm linalg.inv linalg.det linalg.svd
    linalg.qr linalg.multi_dot special.expit special.erf special.softmax special.log_softmax
""")

_FUNCTIONAL = _SHARED | words("""
    adaptive_avg_pool?d adaptive_max_pool?d affine_grid avg_pool?d celu_ dropout?d elu elu_
    embedding_bag fold fractional_max_pool2d fractional_max_pool3d gelu glu grid_sample
    gumbel_softmax hardsigmoid hardswish hardtanh hardtanh_ interpolate leaky_relu leaky_relu_
    linear local_response_norm log_softmax logsigmoid lp_pool?d max_pool?d_with_indices
    max_unpool?d mish multi_head_attention_forward normalize one_hot pad relu relu6 rrelu_
    scaled_dot_product_attention selu_ sigmoid silu smooth_l1_loss softmax softmin softplus
    softshrink softsign tanh tanhshrink threshold_ unfold upsample upsample_bilinear
    upsample_nearest cross_entropy mse_loss nll_loss l1_loss kl_div binary_cross_entropy
    binary_cross_entropy_with_logits huber_loss
""")

MODULE_CLASSES = words("""
    AdaptiveAvgPool?d AdaptiveMaxPool?d AlphaDropout AvgPool?d BatchNorm?d Bilinear CELU
    ChannelShuffle CircularPad?d ConstantPad?d Conv?d ConvTranspose?d CosineSimilarity Dropout
    Dropout?d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold FractionalMaxPool2d
    FractionalMaxPool3d GELU GLU GRU GRUCell GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh
    Identity InstanceNorm?d LPPool?d LSTM LSTMCell LayerNorm LazyBatchNorm?d LazyConv?d
    LazyConvTranspose?d LazyInstanceNorm?d LazyLinear LeakyReLU Linear LocalResponseNorm LogSigmoid
    LogSoftmax MaxPool?d MaxUnpool?d Mish Module ModuleDict ModuleList MultiheadAttention PReLU
    PairwiseDistance ParameterList PixelShuffle PixelUnshuffle RMSNorm RNN RNNCell RReLU ReLU ReLU6
    ReflectionPad?d ReplicationPad?d SELU Sequential SiLU Sigmoid Softmax Softmax2d Softmin Softplus
    Softshrink Softsign Tanh Tanhshrink Threshold Transformer TransformerDecoder
    TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer Unflatten Unfold Upsample
    UpsamplingBilinear2d UpsamplingNearest2d ZeroPad?d BCELoss BCEWithLogitsLoss CrossEntropyLoss
    KLDivLoss L1Loss MSELoss NLLLoss SmoothL1Loss
""")

_INIT = words("""
    calculate_gain constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_
    sparse_ trunc_normal_ uniform_ xavier_normal_ xavier_uniform_ zeros_
""")

PATHS = (
    _paths("torch", _FUNCTIONS | _SHARED | _TORCH_ONLY)
    | _paths("torch.nn.functional", _FUNCTIONAL)
    | _paths("torch.nn", MODULE_CLASSES | {"Parameter", "Buffer", "parameter.Parameter"})
    | _paths("torch.nn.init", _INIT)
    | _paths("torch.nn.utils", words("weight_norm spectral_norm"))
    | _paths("torch.nn.utils.parametrizations", words("orthogonal spectral_norm weight_norm"))
    | _paths("math", _MATH)
    | _paths("typing", _TYPING)
    | words("collections.OrderedDict collections.deque copy.copy copy.deepcopy")
    | words("functools.partial functools.reduce")
)
"""Every dotted name that may stand for a value, as the imports spell it out."""

NAMESPACES = frozenset(path[: dot.start()] for path in PATHS for dot in re.finditer(r"\.", path))
"""Modules that such a name leads through. They are never values themselves."""

# --- attributes of values ---------------------------------------------------------------------

_IN_PLACE = words("""
    abs_ add_ addcdiv_ addcmul_ bernoulli_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ copy_ div_ exp_
    fill_ floor_ index_add_ index_copy_ index_fill_ log_ masked_fill_ mul_ neg_ normal_ pow_
    random_ reciprocal_ relu_ requires_grad_ round_ rsqrt_ scatter_ scatter_add_ sigmoid_ sqrt_
    squeeze_ sub_ tanh_ transpose_ tril_ triu_ trunc_ uniform_ unsqueeze_ zero_
""")

_TENSOR = words("""
    H T bfloat16 bool byte char contiguous cpu cuda data device dim double dtype element_size
    expand expand_as float half indices int is_contiguous is_cuda is_leaf is_meta istft item
    layout long mH mT name names ndim ndimension nelement new_empty new_full new_ones new_tensor
    new_zeros repeat requires_grad reshape_as resize shape short size stft stride to tolist type
    type_as unfold view view_as
""")

_MODULE = words("""
    add_module append apply children eval extend extra_repr forward insert items keys modules
    named_children named_modules named_parameters parameters pop register_buffer register_module
    register_parameter reset_parameters train training update values buffers named_buffers
    flatten_parameters
    affine batch_first bias bidirectional dilation dropout embed_dim eps groups head_dim
    hidden_size in_channels in_features inplace input_size kernel_size layers momentum
    normalized_shape num_embeddings num_features num_heads num_layers out_channels
    out_features out_proj output_padding output_size p padding padding_mode running_mean running_var
    scale_factor start_dim end_dim stride weight weight_ih_l0 weight_hh_l0 bias_ih_l0
    bias_hh_l0 in_proj_weight in_proj_bias norm1 norm2 linear1 linear2 self_attn
    track_running_stats num_batches_tracked _modules _conv_forward
""")

_PYTHON = words("""
    append appendleft clear copy count endswith extend extendleft find get index insert items
    join keys lower lstrip pop popitem popleft remove replace reverse rstrip setdefault sort
    split splitlines startswith strip title union update upper values move_to_end
    isdigit add discard intersection difference is_integer rotate
""")

ATTRIBUTES = _FUNCTIONS | _IN_PLACE | _TENSOR | _MODULE | _PYTHON
"""Attributes that may follow a value that is no name of torch, besides a network's own."""

ASSIGNABLE = words("weight bias data requires_grad")
"""Attributes of another's module or parameter that may be assigned: tied and frozen weights."""

RESERVED = words("""
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval float get_buffer get_extra_state get_parameter get_submodule half
    ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad
    _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl
    _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
    _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name
    _is_full_backward_hook _is_hf_initialized _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks
    _maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set
    _parameters _register_load_state_dict_pre_hook _register_state_dict_hook
    _replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks
    _state_dict_pre_hooks _version _wrapped_call_impl _flat_weights _flat_weights_names
    _conv_forward _output_padding _check_input_dim _apply_instance_norm _get_item_by_idx
""")
"""The interface of nn.Module, and of its layers, that a candidate may use but not redefine."""

ESCAPES = re.compile(
    r"__.*|mro"
    r"|(gi|cr|ag)_(await|code|frame|running|suspended|yieldfrom|origin)"
    r"|tb_(frame|lasti|lineno|next)"
    r"|f_(back|builtins|code|globals|lasti|lineno|locals|trace|trace_lines|trace_opcodes)"
    r"|co_(cellvars|code|consts|filename|freevars|lines|lnotab|name|names|positions|varnames)"
)
"""Attributes that lead from a value to the interpreter."""

METHODS = words("__init__ __repr__ __constants__")
"""Names with two underscores that a class may bind. (The last one is of torch.jit.)"""

HIDDEN = words("""
    _base _cdata _conj _grad _grad_fn _make_subclass _make_wrapper_subclass _neg_view
    _post_accumulate_grad_hooks _python_dispatch _reduce_ex_internal _rev_view_func_unsafe
    _typed_storage _use_count _view_func _view_func_unsafe _fix_weakref
    _clear_non_serializable_cached_data _dtensor__new__ _lazy_clone _nested_tensor_storage_offsets
    _initialize_hook _lazy_load_hook _load_hook _infer_parameters cls_to_become
    apply_ as_strided as_strided_ as_strided_scatter as_subclass backward const_data_ptr data_ptr
    fdel fget format format_map from_pretrained fset getter grad grad_fn map2_ map_
    maketrans module_load numpy parametrizations pin_memory record_stream register_hook
    register_post_accumulate_grad_hook reinforce resize_ resize_as_ resize_as_sparse_ retain_grad
    retains_grad set_ setter deleter share_memory_ sparse_resize_ sparse_resize_and_clear_ storage
    storage_offset storage_type to_bytes to_mkldnn translate untyped_storage volatile
    with_traceback new_empty_strided output_nr new _key_to_attr _get_abs_string_index
    _evaluate _inst
    _coalesced_ _indices _nnz _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr
    _to_sparse_csc _to_sparse_csr _values ccol_indices coalesce col_indices crow_indices
    dequantize int_repr is_coalesced row_indices sparse_mask sspaddmm to_dense
    to_padded_tensor to_sparse to_sparse_bsc to_sparse_bsr to_sparse_coo to_sparse_csc
    to_sparse_csr
""")
"""Attributes of tensors, strings and exceptions that are not allowed: they lead to pointers,
hooks or the interpreter, or (indices of sparse tensors, which nobody checks) write anywhere.
As anything that a candidate assigns to becomes allowed behind every value, it may not assign
to these."""

REFUSED = words("""
    AdaptiveLogSoftmaxWithLoss CTCLoss Container DataParallel ParameterDict RNNBase RNNCellBase
    SyncBatchNorm TYPE_CHECKING UninitializedBuffer UninitializedParameter assert_int_or_pair
    attention boolean_dispatch clip_grad common_types dataclasses factory_kwargs functional fusion
    grad grouped_mm handle_torch_function has_torch_function importlib init intrinsic math
    modules np parallel parameter parametrizations parametrize qat quantizable quantized
    reproducibility_notes rnn scaled_mm skip_init sparse stateless torch utils warnings
""")
"""Names that torch.nn and its functions also hold: not allowed, where other names do not exist.
(A ParameterDict reads and sets any attribute of itself by a string.)"""

BINDABLE = words("""
    ascii bin bytes chr complex copyright credits dir format hash hex id input license oct
    ord pow repr
""")
"""Builtins that are refused and yet may be bound at the top level, such as ``input = ...``."""

CONFUSED = MODULE_CLASSES | _FUNCTIONAL
"""Names that models also look for in torch itself, where they are not."""

TENSOR_CLASSES = _paths("torch", words("Tensor FloatTensor LongTensor BoolTensor")) | _paths(
    "torch.nn", words("Parameter Buffer parameter.Parameter")
)
"""They take a pointer, too: ``torch.Tensor(cdata=1)``."""

TORCH_BASES = _paths("torch.nn", MODULE_CLASSES)
PYTHON_BASES = words("object Exception ValueError RuntimeError")
