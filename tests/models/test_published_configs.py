"""Published `config.json`s mean what the paper or the model card says; what a family does not compute is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, count_parameters, load_config, whisper
from malmoi.models.audio import qwen2_audio_7b
from malmoi.models.bart import BartConfig, bart_large
from malmoi.models.deepseek import deepseek_v2_lite
from malmoi.models.deepseek_v3 import deepseek_v3
from malmoi.models.exaone4 import exaone4_1_2b, exaone4_32b
from malmoi.models.gemma import gemma_2b
from malmoi.models.gemma2 import gemma2_2b
from malmoi.models.gemma3 import gemma3_1b
from malmoi.models.llava import llava_1_5_7b
from malmoi.models.mixtral import mixtral_8x7b
from malmoi.models.mt5 import MT5Config
from malmoi.models.phi3 import phi3_mini_4k
from malmoi.models.qwen import qwen2_5_0_5b
from malmoi.models.qwen3 import qwen3_0_6b, qwen3_8b
from malmoi.models.qwen_moe import qwen3_30b_a3b
from malmoi.models.t5 import t5_small, t5_v1_1_base
from malmoi.nn.moe import MoE

ROPE_EXAONE_4 = {
    "factor": 16.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
EXAONE_4_32B = {
    "architectures": ["Exaone4ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 361,
    "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02, "intermediate_size": 27392,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 16,
    "max_position_embeddings": 131072, "model_type": "exaone4", "num_attention_heads": 40, "num_hidden_layers": 64,
    "num_key_value_heads": 8, "pad_token_id": 0, "rms_norm_eps": 1e-05, "rope_scaling": ROPE_EXAONE_4,
    "rope_theta": 1000000, "sliding_window": 4096, "sliding_window_pattern": "LLLG", "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": True, "vocab_size": 102400,
}  # fmt: skip
EXAONE_4_1_2B = EXAONE_4_32B | {
    "head_dim": 64, "hidden_size": 2048, "intermediate_size": 4096, "layer_types": ["full_attention"] * 30,
    "max_position_embeddings": 65536, "num_attention_heads": 32, "num_hidden_layers": 30, "sliding_window": None,
    "sliding_window_pattern": None, "tie_word_embeddings": True,
}  # fmt: skip
PHI_3_MINI_4K = {
    "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "attention_bias": False,
    "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "bos_token_id": 1,
    "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
    "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
    "sliding_window": 2047, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.2", "use_cache": True, "vocab_size": 32064,
}  # fmt: skip

DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 1,
    "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_scaling": {
        "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096, "type": "yarn",
    },
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False,
    "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "transformers_version": "4.33.1",
    "use_cache": True, "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip
FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
DEEPSEEK_V2_LITE = {
    "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001,
    "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
    "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": False,
    "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
    "pretraining_tp": 1, "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06, "rope_scaling": {
        "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096, "type": "yarn",
    },
    "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": True,
    "tie_word_embeddings": False, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1", "use_cache": True, "v_head_dim": 128, "vocab_size": 102400,
}  # fmt: skip
MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": False,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.36.0.dev0",
    "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
QWEN_2_5_0_5B = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
    "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
    "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
QWEN_3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 12288, "max_position_embeddings": 40960,
    "max_window_layers": 36, "model_type": "qwen3", "num_attention_heads": 32, "num_hidden_layers": 36,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
QWEN_3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 6144,
    "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
    "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": False,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip

T5_SMALL = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512,
    "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0,
    "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 8,
    "num_layers": 6, "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"num_beams": 4}}, "vocab_size": 32128,
}  # fmt: skip
T5_V1_1_BASE = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 768,
    "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
    "num_decoder_layers": 12, "num_heads": 12, "num_layers": 12, "output_past": True, "pad_token_id": 0,
    "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "vocab_size": 32128,
}  # fmt: skip
MT5_SMALL = T5_V1_1_BASE | {
    "architectures": ["MT5ForConditionalGeneration"], "d_ff": 1024, "d_model": 512, "model_type": "mt5",
    "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "tokenizer_class": "T5Tokenizer", "vocab_size": 250112,
}  # fmt: skip
BART_LARGE = {
    "_num_labels": 3, "activation_dropout": 0.1, "activation_function": "gelu", "add_bias_logits": False,
    "add_final_layer_norm": False, "architectures": ["BartModel"], "attention_dropout": 0.1, "bos_token_id": 0,
    "classif_dropout": 0.1, "classifier_dropout": 0.0, "d_model": 1024, "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096, "decoder_layerdrop": 0.0, "decoder_layers": 12, "decoder_start_token_id": 2,
    "dropout": 0.1, "early_stopping": True, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096,
    "encoder_layerdrop": 0.0, "encoder_layers": 12, "eos_token_id": 2, "forced_bos_token_id": 0,
    "forced_eos_token_id": 2, "gradient_checkpointing": False, "init_std": 0.02, "is_encoder_decoder": True,
    "max_position_embeddings": 1024, "model_type": "bart", "no_repeat_ngram_size": 3, "normalize_before": False,
    "num_beams": 4, "num_hidden_layers": 12, "pad_token_id": 1, "scale_embedding": False, "use_cache": True,
    "vocab_size": 50265,
}  # fmt: skip
KOBART = BART_LARGE | {
    "author": "Heewon Jeon", "d_model": 768, "decoder_ffn_dim": 3072, "decoder_layers": 6,
    "decoder_start_token_id": 1, "do_blenderbot_90_layernorm": False, "encoder_ffn_dim": 3072, "encoder_layers": 6,
    "extra_pos_embeddings": 2, "force_bos_token_to_be_generated": False, "kobart_version": 2.0,
    "max_position_embeddings": 1026, "normalize_embedding": True, "num_hidden_layers": 6, "pad_token_id": 3,
    "static_position_embeddings": False, "tokenizer_class": "PreTrainedTokenizerFast", "vocab_size": 30000,
}  # fmt: skip

LLAVA_1_5_7B = {
    "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100, "image_token_index": 32000,
    "model_type": "llava", "pad_token_id": 32001, "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05, "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.36.0.dev0",
    "vision_config": {
        "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": 32064,
}  # fmt: skip

GEMMA_2B = {
    "architectures": ["GemmaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 2,
    "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": None, "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 16384, "max_position_embeddings": 8192, "model_type": "gemma",
    "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1, "pad_token_id": 0,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
    "transformers_version": "4.38.0.dev0", "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
GEMMA_2_2B = {
    "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
    "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
    "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
    "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
    "transformers_version": "4.42.4", "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
GEMMA_3_1B = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
    "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
    "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
    "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": True, "vocab_size": 262144,
}  # fmt: skip

WHISPER_TINY = {
    "activation_dropout": 0.0, "activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"],
    "attention_dropout": 0.0, "begin_suppress_tokens": [220, 50257], "bos_token_id": 50257, "d_model": 384,
    "decoder_attention_heads": 6, "decoder_ffn_dim": 1536, "decoder_layerdrop": 0.0, "decoder_layers": 4,
    "decoder_start_token_id": 50258, "dropout": 0.0, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
    "encoder_layerdrop": 0.0, "encoder_layers": 4, "eos_token_id": 50257,
    "forced_decoder_ids": [[1, 50259], [2, 50359], [3, 50363]], "init_std": 0.02, "is_encoder_decoder": True,
    "max_length": 448, "max_source_positions": 1500, "max_target_positions": 448, "model_type": "whisper",
    "num_hidden_layers": 4, "num_mel_bins": 80, "pad_token_id": 50257, "scale_embedding": False,
    "suppress_tokens": [], "torch_dtype": "float32", "transformers_version": "4.27.0.dev0", "use_cache": True,
    "vocab_size": 51865,
}  # fmt: skip
WHISPER_LARGE_V3_TURBO = WHISPER_TINY | {
    "apply_spec_augment": False, "classifier_proj_size": 256, "d_model": 1280, "decoder_attention_heads": 20,
    "decoder_ffn_dim": 5120, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "encoder_layers": 32,
    "mask_feature_length": 10, "mask_feature_min_masks": 0, "mask_feature_prob": 0.0, "mask_time_length": 10,
    "mask_time_min_masks": 2, "mask_time_prob": 0.05, "median_filter_width": 7, "num_hidden_layers": 32,
    "num_mel_bins": 128, "torch_dtype": "float16", "use_weighted_layer_sum": False, "vocab_size": 51866,
}  # fmt: skip
QWEN2_AUDIO_7B = {
    "architectures": ["Qwen2AudioForConditionalGeneration"], "audio_token_index": 151646, "ignore_index": -100,
    "audio_config": {
        "activation_dropout": 0.0, "activation_function": "gelu", "attention_dropout": 0.0, "d_model": 1280,
        "dropout": 0.0, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "encoder_layerdrop": 0.0,
        "encoder_layers": 32, "init_std": 0.02, "max_source_positions": 1500,
        "model_type": "qwen2_audio_encoder", "num_mel_bins": 128, "scale_embedding": False,
    },
    "model_type": "qwen2_audio", "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
    "text_config": {
        "bos_token_id": 151643, "eos_token_id": 151645, "intermediate_size": 11008,
        "max_position_embeddings": 8192, "model_type": "qwen2", "rms_norm_eps": 1e-05, "rope_theta": 10000,
        "sliding_window": 32768, "torch_dtype": "bfloat16", "use_mrope": False, "vocab_size": 156032,
    },
    "vocab_size": 156032,
}  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write_and_read(config: dict[str, Any]) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        return load_config(tmp_path)

    return write_and_read


@pytest.mark.parametrize(
    ("published", "wanted"),
    [
        pytest.param(EXAONE_4_32B, exaone4_32b(), id="EXAONE 4.0 32B"),
        pytest.param(EXAONE_4_1_2B, exaone4_1_2b(), id="EXAONE 4.0 1.2B"),
        pytest.param(
            EXAONE_4_32B | {"layer_types": None, "sliding_window_pattern": 4},
            exaone4_32b(),
            id="EXAONE 4.0, a global layer in four",
        ),
        pytest.param(
            EXAONE_4_32B
            | dict.fromkeys(["layer_types", "sliding_window_pattern", "rms_norm_eps", "hidden_act"]),
            exaone4_32b(),
            id="EXAONE 4.0, left to the defaults",
        ),
        pytest.param(GEMMA_2B, gemma_2b(), id="Gemma 2B"),
        pytest.param(GEMMA_2_2B, gemma2_2b(), id="Gemma 2 2B"),
        pytest.param(GEMMA_3_1B, gemma3_1b(), id="Gemma 3 1B"),
        pytest.param(DEEPSEEK_V3, deepseek_v3(), id="DeepSeek-V3, in bf16"),
        pytest.param(DEEPSEEK_V2_LITE, deepseek_v2_lite(), id="DeepSeek-V2-Lite"),
        pytest.param(MIXTRAL_8X7B, mixtral_8x7b(), id="Mixtral 8x7B"),
        pytest.param(QWEN_2_5_0_5B, qwen2_5_0_5b(), id="Qwen2.5 0.5B"),
        pytest.param(QWEN_3_8B, qwen3_8b(), id="Qwen3 8B"),
        pytest.param(QWEN_3_30B_A3B, qwen3_30b_a3b(), id="Qwen3 30B-A3B"),
        pytest.param(
            QWEN_3_30B_A3B | {"qkv_bias": False, "shared_expert_intermediate_size": 0, "use_qk_norm": True},
            qwen3_30b_a3b(),
            id="Qwen3 30B-A3B, with what later files say besides",
        ),
        pytest.param(T5_SMALL, t5_small(), id="T5 Small"),
        pytest.param(T5_V1_1_BASE, t5_v1_1_base(), id="T5 1.1 Base"),
        pytest.param(
            MT5_SMALL,
            MT5Config(
                vocab_size=250_112,
                hidden_size=512,
                intermediate_size=1024,
                num_layers=8,
                num_decoder_layers=8,
                num_heads=6,
                head_dim=64,
                is_gated=True,
                is_tied=False,
            ),
            id="mT5 Small",
        ),
        pytest.param(PHI_3_MINI_4K, phi3_mini_4k(), id="Phi-3 Mini 4k"),
        pytest.param(LLAVA_1_5_7B, llava_1_5_7b(), id="LLaVA-1.5 7B"),
        pytest.param(WHISPER_TINY, whisper.PRESETS["whisper-tiny"](), id="Whisper Tiny"),
        pytest.param(WHISPER_LARGE_V3_TURBO, whisper.large_v3_turbo(), id="Whisper Large v3 Turbo"),
        pytest.param(QWEN2_AUDIO_7B, qwen2_audio_7b(), id="Qwen2-Audio 7B"),
        pytest.param(BART_LARGE, bart_large(), id="BART Large"),
        pytest.param(
            KOBART,
            BartConfig(
                vocab_size=30_000,
                hidden_size=768,
                num_layers=6,
                num_heads=16,
                intermediate_size=3072,
                num_decoder_layers=6,
                num_decoder_heads=16,
                decoder_intermediate_size=3072,
                max_positions=1026,
            ),
            id="KoBART",
        ),
    ],
)
def test_a_published_config_is_the_preset(read: Any, published: dict[str, Any], wanted: object) -> None:
    assert read(published) == wanted


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        # Model cards, "Number of Parameters (without embeddings)".
        pytest.param(exaone4_32b(), 30.95, id="EXAONE 4.0 32B"),
        pytest.param(exaone4_1_2b(), 1.07, id="EXAONE 4.0 1.2B"),
        pytest.param(qwen2_5_0_5b(), 0.36, id="Qwen2.5 0.5B"),
        pytest.param(qwen3_0_6b(), 0.44, id="Qwen3 0.6B"),
        pytest.param(qwen3_8b(), 6.95, id="Qwen3 8B"),
    ],
)
def test_a_preset_has_as_many_parameters_outside_the_embeddings_as_published(
    config: Any, billions: float
) -> None:
    with torch.device("meta"):
        model = build_model(config)
    embeddings = {model.embedding.tokens.weight, model.head.weight}
    outside = count_parameters(model) - sum(matrix.numel() for matrix in embeddings)
    assert round(outside / 1e9, 2) == billions


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        pytest.param(mixtral_8x7b(), 46.7, 12.9, id="Mixtral 8x7B"),  # its announcement
        pytest.param(qwen3_30b_a3b(), 30.5, 3.3, id="Qwen3 30B-A3B"),  # its model card
        # arXiv:2412.19437, section 4.2. Its 44,544 experts take seconds to build, without memory too.
        pytest.param(deepseek_v3(), 671, 37, id="DeepSeek-V3", marks=pytest.mark.slow),
    ],
)
def test_a_sparse_preset_has_as_many_parameters_as_published_in_total_and_for_a_token(
    config: Any, total: float, active: float
) -> None:
    with torch.device("meta"):
        model = build_model(config)
    everything = count_parameters(model)
    idle = 0.0
    for module in model.modules():
        if isinstance(module, MoE):
            idle += count_parameters(module.experts) * (1 - config.top_k / config.num_experts)
    assert everything / 1e9 == pytest.approx(total, rel=0.002)
    assert (everything - idle) / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            DEEPSEEK_V3 | {"quantization_config": FP8},
            "quantization_config=.*'fp8'.* is not read here. Use a checkpoint in bf16",
        ),
        (DEEPSEEK_V3 | {"scoring_func": "softmax"}, "scoring_func='softmax' is not supported here"),
        (
            DEEPSEEK_V3 | {"num_key_value_heads": 64},
            "num_key_value_heads=64, but each of 128 heads has its own",
        ),
        (DEEPSEEK_V3 | {"moe_layer_freq": 2}, "moe_layer_freq=2 is not supported here"),
        (DEEPSEEK_V3 | {"rope_interleave": False}, "rope_interleave=False is not supported here"),
        (DEEPSEEK_V2_LITE | {"norm_topk_prob": True}, "norm_topk_prob=True is not supported here"),
        (QWEN_2_5_0_5B | {"use_mrope": True}, "use_mrope=True is not supported here"),
        (
            QWEN_2_5_0_5B
            | {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]},
            r"layer_types=\['sliding_attention', 'full_attention'\] is not supported here",
        ),
        (
            QWEN_2_5_0_5B | {"use_sliding_window": True, "max_window_layers": -1},
            "max_window_layers=-1 is below 0",
        ),
        (DEEPSEEK_V2_LITE | {"first_k_dense_replace": -1}, "first_k_dense_replace=-1 is below 0"),
        (QWEN_3_30B_A3B | {"use_sliding_window": True}, "use_sliding_window=True is not supported here"),
        (QWEN_3_30B_A3B | {"use_qk_norm": False}, "use_qk_norm=False is not supported here"),
        (QWEN_3_30B_A3B | {"qkv_bias": True}, "qkv_bias=True is not supported here"),
        (
            QWEN_3_30B_A3B | {"shared_expert_intermediate_size": 768},
            "shared_expert_intermediate_size=768 is not supported here. Supported: 0",
        ),
        (LLAVA_1_5_7B | {"vocab_size": 32000}, "vocab_size=32000 is not supported here. Supported: 32064"),
        (
            LLAVA_1_5_7B | {"vision_feature_select_strategy": "full", "image_seq_length": 578},
            "image_seq_length=578 is not supported here. Supported: 577, 576",
        ),
        (MIXTRAL_8X7B | {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported here"),
        (EXAONE_4_32B | {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported here. Supported: 'silu'"),
        (
            EXAONE_4_32B | {"num_hidden_layers": 63},
            "is not one of sliding_attention, .* for each of 63 layers",
        ),
        (EXAONE_4_32B | {"sliding_window": None}, "has local layers, but window=None"),
        (
            EXAONE_4_32B | {"layer_types": ["chunked_attention"]},
            r"layer_types=\['chunked_attention'\] is not one of sliding_attention, full_attention",
        ),
        (EXAONE_4_32B | {"layer_types": None}, "sliding_window_pattern='LLLG' is not a int"),
        (PHI_3_MINI_4K | {"partial_rotary_factor": 0.75}, "partial_rotary_factor=0.75 is not supported here"),
        (
            PHI_3_MINI_4K | {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "a Phi-3 has no LinearScaling",
        ),
    ],
    ids=[
        "DeepSeek's weights in fp8",
        "DeepSeek-V3 with V2's scores",
        "keys that heads share, made of latents",
        "experts in every second layer",
        "pairs of halves",
        "DeepSeek-V2's weights normalised",
        "Qwen's pictures",
        "Qwen's windows in the first layers",
        "Qwen's windows from before the first layer",
        "DeepSeek's experts from before the first layer",
        "Qwen's windows over experts",
        "Qwen's experts without norms",
        "Qwen's experts with biases",
        "Qwen's experts beside a shared one",
        "LLaVA's two vocabularies",
        "LLaVA's states that its tower does not have",
        "Mixtral's activation",
        "an activation",
        "layers",
        "a window",
        "a kind of layer",
        "a pattern that the reference cannot read",
        "Phi-4's heads that turn in part",
        "a scaling that no Phi-3 has",
    ],
)
def test_what_a_family_does_not_compute_is_refused_by_name(
    read: Any, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config)
