set -x
train=$HOME/data/gsm8k/train.parquet
python3 -m verl.trainer.main_ppo \
    algorithm.adv_estimator=gae algorithm.lam=0.95 algorithm.gamma=0.99 \
    data.train_files="$train" \
    data.train_batch_size=1024 \
    data.max_prompt_length=1024 \
    data.max_response_length=512 \
    actor_rollout_ref.model.path=Qwen/Qwen2-7B-Instruct \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.optim.lr_warmup_steps_ratio=0.1 \
    actor_rollout_ref.actor.ppo_mini_batch_size=256 \
    actor_rollout_ref.rollout.name=vllm \
    critic.optim.lr=1e-5 \
    critic.model.use_remove_padding=True \
    critic.optim.lr_warmup_steps_ratio=0.05 \
    critic.model.path=org/other-7b \
    critic.ppo_micro_batch_size_per_gpu=32 \
    critic.ppo_mini_batch_size=128 \
    critic.model.fsdp_config.param_offload=False \
    reward_model.enable=True \
    reward_model.model.path=org/reward-7b \
    reward_model.max_length=2048 \
    algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.01 algorithm.kl_penalty=low_var_kl \
    trainer.critic_warmup=5 \
    trainer.total_training_steps=100 $@
