CLIP_RATIO_HIGH=0.28
python -m skyrl.train.entrypoints.main_base \
  data.train_data="['data/dapo.parquet']" trainer.policy.model.path=Qwen/Qwen2.5-1.5B-Instruct \
  trainer.algorithm.eps_clip_high=$CLIP_RATIO_HIGH trainer.algorithm.use_kl_loss=false \
  trainer.algorithm.dynamic_sampling.type=filter trainer.algorithm.dynamic_sampling.max_sample_batches=30 \
  trainer.algorithm.loss_reduction=token_mean generator.apply_overlong_filtering=true \
  trainer.algorithm.use_tis=true trainer.algorithm.tis_imp_ratio_cap=2.0 \
  generator.n_samples_per_prompt=16 trainer.epochs=5
