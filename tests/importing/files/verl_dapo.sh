MAX_PROMPT=$((1024 * 2))
MAX_RESPONSE=$((1024 * 20))
buffer=4096
DATA=(
  data.train_files=data/dapo-math-17k.parquet   # comments stand between
  data.prompt_key=prompt
  data.truncation=left
  data.max_prompt_length=${MAX_PROMPT}
  data.max_response_length=${MAX_RESPONSE}
  data.train_batch_size=512
)
CLIP="actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.actor.clip_ratio_high=0.28"
ray job submit -- python3 -m recipe.dapo.main_dapo \
  "${DATA[@]}" $CLIP \
  algorithm.adv_estimator=grpo \
  algorithm.use_kl_in_reward=False algorithm.kl_ctrl.kl_coef=0.0 \
  +algorithm.filter_groups.enable=True +algorithm.filter_groups.metric=acc \
  ++algorithm.filter_groups.max_num_gen_batches=10 \
  actor_rollout_ref.model.path=Qwen/Qwen2.5-32B \
  actor_rollout_ref.rollout.n=16 \
  actor_rollout_ref.actor.ppo_mini_batch_size=32 \
  actor_rollout_ref.actor.loss_agg_mode=token-mean \
  actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.optim.weight_decay=0.1 \
  reward_model.reward_manager=dapo \
  reward_model.overlong_buffer.enable=True \
  reward_model.overlong_buffer.len=${buffer} \
  reward_model.overlong_buffer.penalty_factor=1.0 \
  custom_reward_function.path=recipe/rewards.py custom_reward_function.name=score_math \
  trainer.nnodes=16 trainer.n_gpus_per_node=8 trainer.total_training_steps=400
