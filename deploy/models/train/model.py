"""The networks that are trained together: text encoder and UNet, both of stock classes."""

from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tokenizer import MAX_LENGTH

TEXT_WIDTH = 128
LATENT_CHANNELS = 4
LATENT_SIZE = 16  # of a 64x64 picture


def build_unet():
    """The blocks of Stable Diffusion 1.x.

    resnet_time_scale_shift must stay "default": with "scale_shift" OpenVINO 2026.4 dies with a segmentation fault in
    compile_model once shapes are fixed and the precision is f32 (in the CPU plugin's kernel fusion, at a Multiply
    after a GroupNorm).
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128), layers_per_block=1, norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=TEXT_WIDTH, attention_head_dim=4,
        time_embedding_dim=256, resnet_time_scale_shift="default")


def build_text_encoder(tokenizer):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=MAX_LENGTH, hidden_act="quick_gelu",
        projection_dim=TEXT_WIDTH, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))


def build_scheduler():
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        timestep_spacing="leading")
