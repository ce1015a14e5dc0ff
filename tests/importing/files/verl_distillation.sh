TEACHER=${TEACHER:-org/large}
python3 -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo \
    data.train_files=data/math/train.parquet \
    data.train_batch_size=128 \
    actor_rollout_ref.model.path=org/small \
    actor_rollout_ref.actor.ppo_mini_batch_size=128 \
    actor_rollout_ref.rollout.n=1 \
    distillation.enabled=True \
    distillation.teacher_models.teacher_model.model_path=$TEACHER \
    distillation.teacher_models.teacher_model.inference.tensor_model_parallel_size=2 \
    distillation.distillation_loss.loss_mode=forward_kl_topk \
    distillation.distillation_loss.topk=64 \
    distillation.distillation_loss.use_task_rewards=False \
    distillation.distillation_loss.use_policy_gradient=False \
    distillation.distillation_loss.loss_max_clamp=10.0 \
    trainer.total_epochs=15
