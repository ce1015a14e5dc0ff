python mason.py --cluster ai2/jupiter --num_nodes 2 --gpus 8 -- python open_instruct/grpo_fast.py \
    --exp_name rl_7b --beta 0.0 --num_samples_per_prompt_rollout 8 --num_unique_prompts_rollout 64 \
    --dataset_mixer_list allenai/Dolci-Think-RL-7B 1.0 --dataset_mixer_list_splits train \
    --max_prompt_token_length 2048 --response_length 4096 --pack_length 8192 \
    --model_name_or_path allenai/Olmo-3-7B-Think-DPO --learning_rate 1e-6 --lr_scheduler_type constant \
    --total_episodes 100000 --deepspeed_stage 3 --apply_verifiable_reward true --with_tracking
